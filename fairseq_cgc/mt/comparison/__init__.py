"""Two outputs of one test set side by side: ``scripts/compare.py``.

Layers, lowest first: ``compare`` (scores, test, single sentences), ``word_diff`` (words to mark),
``page`` (the HTML, with ``page.html``, ``.css`` and ``.js``), ``files`` (from files to the page).
"""
