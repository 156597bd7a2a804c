"""Tables of results: several systems trained by one protocol, evaluated and compared.

Layers, lowest first: ``protocol`` (how all are trained), ``systems`` (what is trained),
``parameters`` (their sizes), ``released`` (text that others prepared), ``stages`` (runs that are
extended), ``experiment`` (the runs), ``report`` (the table), ``standing`` (how far the runs are).
``scripts/reproduce.py`` puts them together.
"""
