"""The adverbials of the demo corpus: fixed phrases, German ``=`` English."""

from __future__ import annotations

from dataclasses import dataclass

from fairseq_cgc.mt.demo_corpus.inflection import table_rows


@dataclass(frozen=True)
class Adverbial:
    """A fixed phrase. ``kind`` decides the English tense and where the phrase stands."""

    german: str
    english: str
    kind: str = ""


def _adverbials(kind: str, table: str) -> tuple[Adverbial, ...]:
    rows = table_rows(table)
    return tuple(Adverbial(" ".join(german), english, kind) for german, english in rows)


NOW = _adverbials(
    "now",
    """
    heute = today
    jetzt = now
    gerade = right now""",
)
HABIT = _adverbials(
    "habit",
    """
    jeden Tag = every day
    jeden Morgen = every morning
    am Wochenende = on the weekend
    im Sommer = in summer""",
)
FREQUENCY = _adverbials(
    "frequency",
    """
    oft = often
    manchmal = sometimes
    normalerweise = usually
    immer = always
    selten = rarely""",
)
FUTURE = _adverbials(
    "future",
    """
    morgen = tomorrow
    bald = soon
    heute Abend = tonight
    nächste Woche = next week
    am Montag = on Monday""",
)
PAST = _adverbials(
    "past",
    """
    gestern = yesterday
    letzte Woche = last week
    heute Morgen = this morning
    vor drei Tagen = three days ago
    im letzten Jahr = last year""",
)
OCCASIONS = _adverbials(
    "setting",
    """
    nach der Arbeit = after work
    vor dem Essen = before dinner""",
)
CAUSES = _adverbials(
    "setting",
    """
    wegen des Regens = because of the rain
    trotz der Kälte = despite the cold""",
)
PLACES = _adverbials(
    "place",
    """
    im Park = in the park
    im Garten = in the garden
    zu Hause = at home
    in der Schule = at school
    auf dem Markt = at the market
    am Strand = on the beach
    in der Bibliothek = in the library
    vor dem Haus = in front of the house""",
)
DIRECTIONS = {
    "near": _adverbials(
        "direction",
        """
        nach Hause = home
        zum Bahnhof = to the station
        zur Schule = to school
        in den Park = to the park
        auf den Markt = to the market""",
    ),
    "far": _adverbials(
        "direction",
        """
        in die Stadt = to the city
        nach Berlin = to Berlin
        nach Italien = to Italy
        ans Meer = to the sea
        in die Berge = to the mountains""",
    ),
}
# Keys: the kinds of object (or of movement) that the manner suits.
MANNERS = {
    "near": _adverbials("manner", "schnell = quickly\nlangsam = slowly"),
    "food": _adverbials("manner", "schnell = quickly\nlangsam = slowly"),
    "opening": _adverbials("manner", "leise = quietly\nvorsichtig = carefully"),
}
# "for somebody" goes with these.
BENEFACTIVE = ("kaufen", "kochen", "suchen", "schreiben", "bestellen", "zeichnen", "mitbringen")
