"""How the words of the demo corpus inflect, in German and in English."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Case = Literal["nominative", "accusative", "dative", "genitive"]

# ------------------------------------------------------------------------------- English verbs

# Past, participle and, where the last consonant doubles, the -ing form.
_IRREGULAR = {
    row.split()[0]: row.split()[1:]
    for row in """
    be was been|bring brought brought|buy bought bought|come came come|draw drew drawn
    drive drove driven|eat ate eaten|fall fell fallen|feed fed fed|find found found
    fly flew flown|forget forgot forgotten forgetting|get got gotten getting|give gave given
    go went gone|hang hung hung|have had had|hear heard heard|hide hid hidden|know knew known
    leave left left|lend lent lent|lose lost lost|meet met met|pay paid paid
    plan planned planned planning|put put put putting|read read read|run ran run running
    say said said|see saw seen
    sell sold sold|send sent sent|show showed shown|sing sang sung|sleep slept slept
    swim swam swum swimming|take took taken|think thought thought|throw threw thrown
    understand understood understood|wake woke woken|wear wore worn|write wrote written
    """.replace("\n", "|").split("|")
    if row.strip()
}


@dataclass(frozen=True)
class EnglishVerb:
    """``head`` inflects; ``tail`` follows it ("for", "asleep", "@ up")."""

    head: str
    tail: str = ""

    @property
    def third(self) -> str:
        """Third person singular of the simple present."""
        if self.head == "have":
            return "has"
        if self.head.endswith(("s", "sh", "ch", "x", "o")):
            return self.head + "es"
        return self._y_to("ies") if self._ends_in_y() else self.head + "s"

    @property
    def past(self) -> str:
        if self.head in _IRREGULAR:
            return _IRREGULAR[self.head][0]
        if self.head.endswith("e"):
            return self.head + "d"
        return self._y_to("ied") if self._ends_in_y() else self.head + "ed"

    @property
    def participle(self) -> str:
        return _IRREGULAR[self.head][1] if self.head in _IRREGULAR else self.past

    @property
    def ing(self) -> str:
        if len(_IRREGULAR.get(self.head, ())) == 3:
            return _IRREGULAR[self.head][2]
        silent_e = self.head.endswith("e") and not self.head.endswith("ee")
        return (self.head[:-1] if silent_e else self.head) + "ing"

    def _ends_in_y(self) -> bool:
        return self.head.endswith("y") and self.head[-2] not in "aeiou"

    def _y_to(self, ending: str) -> str:
        return self.head[:-1] + ending


# -------------------------------------------------------------------------------- German verbs


@dataclass(frozen=True)
class Verb:
    """A German verb, the nouns it takes (``kinds``) and its English counterpart."""

    base: str
    prefix: str
    third: str
    participle: str
    auxiliary: str
    english: EnglishVerb
    kinds: tuple[str, ...] = ()
    simple: bool = False  # English has no progressive ("knows", not "is knowing")

    @property
    def infinitive(self) -> str:
        return self.prefix + self.base

    @property
    def zu_infinitive(self) -> str:
        """``zu machen``, but ``aufzumachen``."""
        return f"{self.prefix}zu{self.base}" if self.prefix else f"zu {self.base}"

    def present(self, person: int) -> str:
        """The present without its prefix; ``person`` counts ich, du, er, wir, ihr, sie from 0."""
        if self.base in PARADIGMS:
            return PARADIGMS[self.base][person]
        if person == 0:
            return self._stem + "e"
        if person == 1:
            stem = self.third[:-1]
            return stem + ("t" if stem.endswith(("s", "ß", "z")) else "st")
        if person == 2:
            return self.third
        if person == 4:
            return self._stem + ("et" if self._needs_e else "t")
        return self.base

    @property
    def imperative(self) -> str:
        """The du-imperative: ``lies`` keeps the changed vowel of ``liest``, ``fahre`` does not."""
        changed = self.third[:-1]
        keeps = "i" in changed and not self._stem.startswith(changed)
        return changed if keeps else self._stem + "e"

    @property
    def _stem(self) -> str:
        return self.base[:-2] if self.base.endswith("en") else self.base[:-1]

    @property
    def _needs_e(self) -> bool:
        return self._stem.endswith(("t", "d", "fn", "chn"))


# ich, du, er, wir, ihr, sie
PARADIGMS: dict[str, tuple[str, ...]] = {
    key: tuple(forms.split())
    for key, forms in {
        "sein": "bin bist ist sind seid sind",
        "war": "war warst war waren wart waren",
        "haben": "habe hast hat haben habt haben",
        "werden": "werde wirst wird werden werdet werden",
        "wissen": "weiß weißt weiß wissen wisst wissen",
        "können": "kann kannst kann können könnt können",
        "konnte": "konnte konntest konnte konnten konntet konnten",
        "müssen": "muss musst muss müssen müsst müssen",
        "musste": "musste musstest musste mussten musstet mussten",
        "wollen": "will willst will wollen wollt wollen",
        "wollte": "wollte wolltest wollte wollten wolltet wollten",
        "dürfen": "darf darfst darf dürfen dürft dürfen",
        "durfte": "durfte durftest durfte durften durftet durften",
        "sollen": "soll sollst soll sollen sollt sollen",
        "möchten": "möchte möchtest möchte möchten möchtet möchten",
    }.items()
}


# --------------------------------------------------------------------------------------- nouns


@dataclass(frozen=True)
class Noun:
    """A German noun with its English counterpart; ``gender`` is ``m``, ``f`` or ``n``."""

    singular: str
    gender: str
    plural: str
    genitive: str
    english: str
    english_plural: str
    kind: str

    def german(self, case: Case, plural: bool) -> str:
        """The form for a case, e.g. ``den Kindern``, ``des Mannes``, ``den Studenten``."""
        if plural:
            needs_n = case == "dative" and not self.plural.endswith(("n", "s"))
            return self.plural + "n" if needs_n else self.plural
        if case == "genitive":
            return self.genitive
        # Weak masculines (der Student, des Studenten) take that ending in every other case.
        weak = self.gender == "m" and not self.genitive.endswith("s")
        return self.genitive if weak and case != "nominative" else self.singular


def english_plural(singular: str) -> str:
    """The regular plural: ``boxes``, ``stories``, ``keys``, ``potatoes``."""
    if singular.endswith(("s", "x", "ch", "sh", "to")):
        return singular + "es"
    if singular.endswith("y") and singular[-2] not in "aeiou":
        return singular[:-1] + "ies"
    return singular + "s"


# ---------------------------------------------------------------- determiners and adjectives

# masculine, feminine, neuter, plural for each case
_ARTICLE: dict[Case, str] = {
    "nominative": "der die das die",
    "accusative": "den die das die",
    "dative": "dem der dem den",
    "genitive": "des der des der",
}
_DIES_ENDING: dict[Case, str] = {
    "nominative": "er e es e",
    "accusative": "en e es e",
    "dative": "em er em en",
    "genitive": "es er es er",
}
_WEAK: dict[Case, str] = {  # after der, dieser, jeder
    "nominative": "e e e en",
    "accusative": "en e e en",
    "dative": "en en en en",
    "genitive": "en en en en",
}
_MIXED: dict[Case, str] = {  # after ein, kein, mein, dein, unser
    "nominative": "er e es en",
    "accusative": "en e es en",
    "dative": "en en en en",
    "genitive": "en en en en",
}


def _column(gender: str, plural: bool) -> int:
    return 3 if plural else "mfn".index(gender)


def relative_pronoun(case: Case, gender: str, plural: bool) -> str:
    """``der``, ``den``, ``die``, ``das``: the article, in the two cases that are used."""
    return _ARTICLE[case].split()[_column(gender, plural)]


def determiner(word: str, case: Case, gender: str, plural: bool) -> str:
    """The form of ``der``, ``dies``, ``jed``, ``ein``, ``kein``, ``mein``... or of a numeral."""
    column = _column(gender, plural)
    if word == "der":
        return _ARTICLE[case].split()[column]
    if word in ("dies", "jed"):
        return word + _DIES_ENDING[case].split()[column]
    if word.endswith(("ein", "unser")):
        bare = (case, column) in (("nominative", 0), ("nominative", 2), ("accusative", 2))
        return word if bare else word + _DIES_ENDING[case].split()[column]
    return word  # "", zwei, drei, vier


def adjective_ending(word: str, case: Case, gender: str, plural: bool) -> str:
    """The ending of an adjective behind the determiner ``word``."""
    if word in ("der", "dies", "jed"):
        return _WEAK[case].split()[_column(gender, plural)]
    if word.endswith(("ein", "unser")):
        return _MIXED[case].split()[_column(gender, plural)]
    return {"nominative": "e", "accusative": "e", "dative": "en", "genitive": "er"}[case]


ENGLISH_DETERMINER = {
    "der": "the",
    "jed": "every",
    "mein": "my",
    "dein": "your",
    "unser": "our",
    "zwei": "two",
    "drei": "three",
    "vier": "four",
    "": "",
}


@dataclass(frozen=True)
class Adjective:
    """An adjective by its predicative form."""

    german: str
    english: str

    def inflected(self, ending: str) -> str:
        """``teuer`` and ``dunkel`` lose their e, ``müde`` has it already."""
        if self.german.endswith(("euer", "kel")):
            return self.german[:-2] + self.german[-1] + ending
        return self.german.removesuffix("e") + ending


# -------------------------------------------------------------------------------------- tables


def table_rows(table: str) -> Iterator[tuple[list[str], str]]:
    """The lines ``a b c = d e`` of a word table as ``([a, b, c], "d e")``."""
    for line in table.strip().splitlines():
        german, english = line.split("=")
        yield german.split(), english.strip()
