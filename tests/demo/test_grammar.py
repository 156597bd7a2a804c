"""Forms, agreement and word order in both languages."""

import re
from dataclasses import replace

import pytest

from fairseq_cgc.demo import english as en
from fairseq_cgc.demo import generate_pairs, lexicon
from fairseq_cgc.demo import german as de
from fairseq_cgc.demo import grammar as g
from fairseq_cgc.demo.inflection import CASES, adjective_ending, determiner
from fairseq_cgc.demo.lexicon import PARADIGMS, Adverbial
from fairseq_cgc.demo.noun_phrases import PRONOUNS, NounPhraseSampler
from fairseq_cgc.demo.sentences import count_tokens

SUBORDINATE = re.compile(r"\b(?:[Ww]eil|[Oo]bwohl|[Ww]enn|dass|ob) ([^,.?]+)[,.?]")


@pytest.fixture(scope="module")
def sample():
    """4000 pairs, read only."""
    return list(generate_pairs(4000, seed=3))


def all_verbs():
    return [verb for verbs in lexicon.VERBS.values() for verb in verbs]


def find_verb(infinitive):
    return next(verb for verb in all_verbs() if verb.infinitive == infinitive)


def word_phrase(word, article):
    """A noun (singular or plural) with ``article`` and ``alt``, e.g. ``den alten Mann``."""
    entries = [noun for words in lexicon.NOUNS.values() for noun in words]
    (noun,) = [noun for noun in entries if word in (noun.singular, noun.plural)]
    plural = word != noun.singular
    german = {}
    for case in CASES:
        gender = "plural" if plural else noun.gender
        ending = adjective_ending(article, case, gender)
        start = determiner(article, case, gender)
        german[case] = f"{start} alt{ending} {noun.german(case, plural)}".strip()
    english = f"the old {noun.english_plural if plural else noun.english}"
    return g.NounPhrase(german, english, english, 5 if plural else 2, gender=noun.gender)


@pytest.mark.parametrize(
    ("noun", "word", "forms"),
    [
        ("Mann", "der", ("der alte Mann", "den alten Mann", "dem alten Mann", "des alten Mannes")),
        ("Student", "ein", ("ein alter Student", "einen alten Studenten", "einem alten Studenten",
                            "eines alten Studenten")),
        ("Frau", "dies", ("diese alte Frau", "diese alte Frau", "dieser alten Frau",
                          "dieser alten Frau")),
        ("Buch", "mein", ("mein altes Buch", "mein altes Buch", "meinem alten Buch",
                          "meines alten Buches")),
        ("Tür", "kein", ("keine alte Tür", "keine alte Tür", "keiner alten Tür",
                         "keiner alten Tür")),
        ("Kind", "jed", ("jedes alte Kind", "jedes alte Kind", "jedem alten Kind",
                         "jedes alten Kindes")),
        ("Kinder", "der", ("die alten Kinder", "die alten Kinder", "den alten Kindern",
                           "der alten Kinder")),
        ("Autos", "unser", ("unsere alten Autos", "unsere alten Autos", "unseren alten Autos",
                            "unserer alten Autos")),
        ("Äpfel", "zwei", ("zwei alte Äpfel", "zwei alte Äpfel", "zwei alten Äpfeln",
                           "zwei alter Äpfel")),
        ("Katzen", "", ("alte Katzen", "alte Katzen", "alten Katzen", "alter Katzen")),
    ],
)  # fmt: skip
def test_declension(noun, word, forms):
    assert tuple(word_phrase(noun, word).german.values()) == forms


@pytest.mark.parametrize(
    ("infinitive", "forms"),
    [
        ("lesen", "lese liest liest lesen lest lesen lies"),
        ("aufmachen", "mache machst macht machen macht machen mache"),
        ("einladen", "lade lädst lädt laden ladet laden lade"),
        ("arbeiten", "arbeite arbeitest arbeitet arbeiten arbeitet arbeiten arbeite"),
        ("öffnen", "öffne öffnest öffnet öffnen öffnet öffnen öffne"),
        ("füttern", "füttere fütterst füttert füttern füttert füttern füttere"),
        ("schließen", "schließe schließt schließt schließen schließt schließen schließe"),
        ("mitnehmen", "nehme nimmst nimmt nehmen nehmt nehmen nimm"),
        ("laufen", "laufe läufst läuft laufen lauft laufen laufe"),
    ],
)
def test_conjugation(infinitive, forms):
    verb = find_verb(infinitive)
    assert [*map(verb.present, range(6)), verb.imperative] == forms.split()


def test_adjective_stems():
    sampler = lexicon.ADJECTIVES
    adjectives = {word.german: word for words in sampler.values() for word in words}
    inflected = [adjectives[word].inflected("en") for word in ("teuer", "dunkel", "müde", "neu")]
    assert inflected == ["teuren", "dunklen", "müden", "neuen"]


def test_noun_phrases_in_both_languages():
    sampler, seen = NounPhraseSampler(1), set()
    for _ in range(3000):
        sampler.reset()
        phrase = sampler.noun_phrase(("thing", "text", "food"), definite=False)
        german, english = phrase.german["accusative"], phrase.english
        assert phrase.person == (2 if german.startswith(("ein ", "eine ", "einen ")) else 5)
        seen.add((german, english))
    assert {
        ("einen Apfel", "an apple"),
        ("eine Uhr", "a watch"),
        ("zwei Messer", "two knives"),
    } <= seen


def test_subject_and_verb_agree(sample):
    forms = [{verb.present(person) for verb in all_verbs()} for person in range(6)]
    for person in range(6):
        forms[person] |= {paradigm[person] for paradigm in PARADIGMS.values()}
    # "sie" is "she" at the start of a sentence: as "they" it could be the polite "you".
    persons = {"Ich": 0, "Du": 1, "Er": 2, "Sie": 2, "Wir": 3, "Ihr": 4, "Anna": 2, "Paul": 2}
    checked = 0
    for german, english in sample:
        subject, finite = german.split()[:2]
        if subject in persons:
            checked += 1
            assert finite.rstrip(",.?!") in forms[persons[subject]], german
            assert subject != "Sie" or english.startswith("She "), german
    assert checked > 400


def test_main_clause_questions_and_subordinate_clause_of_a_separable_verb():
    window = word_phrase("Fenster", "der")
    opening = find_verb("aufmachen")
    yesterday = Adverbial("gestern", "yesterday", "past")
    clause = g.Clause(word_phrase("Mann", "der"), opening, accusative=window)
    past = replace(clause, tense="perfect", time=yesterday)
    must = replace(clause, modal=find_verb("müssen"))
    negated = replace(clause, is_negated=True, particle=g.NICHT)
    man, glass = "der alte Mann", "das alte Fenster"
    man_en, glass_en = "the old man", "the old window"
    assert [
        de.main_clause(clause),
        de.main_clause(past, "time"),
        de.main_clause(must),
        de.question(clause, "warum"),
        de.question(past),
        de.subordinate_clause(clause, "weil"),
        de.subordinate_clause(past, "dass"),
        de.subordinate_clause(must, "wenn"),
        de.main_clause(negated),
        de.infinitive_clause(clause, "um"),
        de.imperative(clause, plural=False, please=True),
    ] == [
        f"{man} macht {glass} auf",
        f"gestern hat {man} {glass} aufgemacht",
        f"{man} muss {glass} aufmachen",
        f"warum macht {man} {glass} auf",
        f"hat {man} gestern {glass} aufgemacht",
        f"weil {man} {glass} aufmacht",
        f"dass {man} gestern {glass} aufgemacht hat",
        f"wenn {man} {glass} aufmachen muss",
        f"{man} macht {glass} nicht auf",
        f"um {glass} aufzumachen",
        f"mache bitte {glass} auf",
    ]
    assert [
        en.statement(clause),
        en.statement(past, "time"),
        en.statement(past),
        en.statement(must),
        en.question(clause, "why"),
        en.question(past),
        en.question(must),
        en.statement(negated),
        en.infinitive_clause(clause, "in order to"),
    ] == [
        f"{man_en} is opening {glass_en}",
        f"yesterday, {man_en} opened {glass_en}",
        f"{man_en} opened {glass_en} yesterday",
        f"{man_en} has to open {glass_en}",
        f"why is {man_en} opening {glass_en}",
        f"did {man_en} open {glass_en} yesterday",
        f"does {man_en} have to open {glass_en}",
        f"{man_en} is not opening {glass_en}",
        f"in order to open {glass_en}",
    ]


@pytest.mark.parametrize(
    ("german", "english", "kind", "expected"),
    [
        ("oft", "often", "frequency", "she often buys the old bag"),
        ("jetzt", "now", "now", "she is buying the old bag now"),
        ("morgen", "tomorrow", "future", "she will buy the old bag tomorrow"),
        ("jeden Tag", "every day", "habit", "she buys the old bag every day"),
    ],
)
def test_time_decides_the_english_tense(german, english, kind, expected):
    buying = find_verb("kaufen")
    time = Adverbial(german, english, kind)
    clause = g.Clause(PRONOUNS[3], buying, accusative=word_phrase("Tasche", "der"), time=time)
    assert de.main_clause(clause) == f"sie kauft {german} die alte Tasche"
    assert en.statement(clause) == expected


@pytest.mark.parametrize(
    ("particle", "tense", "german", "english"),
    [
        (g.NICHT, "perfect", "hat das alte Buch nicht gelesen", "did not read the old book"),
        (g.NICHT, "present", "liest das alte Buch nicht", "is not reading the old book"),
        (g.NOT_YET, "perfect", "hat das alte Buch noch nicht gelesen",
         "has not read the old book yet"),
        (g.ALREADY, "perfect", "hat das alte Buch schon gelesen", "has already read the old book"),
        (g.NEVER_YET, "perfect", "hat das alte Buch noch nie gelesen",
         "has never read the old book"),
        (g.NEVER, "present", "liest das alte Buch nie", "never reads the old book"),
        (g.GLADLY, "present", "liest das alte Buch gern", "likes to read the old book"),
    ],
)  # fmt: skip
def test_particles(particle, tense, german, english):
    negated = particle in (g.NICHT, g.NOT_YET)
    clause = g.Clause(
        PRONOUNS[2],
        find_verb("lesen"),
        tense,
        accusative=word_phrase("Buch", "der"),
        particle=particle,
        is_negated=negated,
    )
    assert de.main_clause(clause) == f"er {german}"
    assert en.statement(clause) == f"he {english}"


def test_indefinite_objects_follow_place_and_particle():
    clause = g.Clause(
        PRONOUNS[2],
        find_verb("lesen"),
        accusative=replace(word_phrase("Bücher", ""), is_definite=False),
        place=Adverbial("im Park", "in the park", "place"),
        particle=g.NEVER,
    )
    assert de.main_clause(clause) == "er liest nie im Park alte Bücher"
    assert de.subordinate_clause(clause, "weil") == "weil er nie im Park alte Bücher liest"
    definite = replace(clause, accusative=word_phrase("Buch", "der"))
    assert de.main_clause(definite) == "er liest das alte Buch nie im Park"
    assert en.statement(definite) == "he never reads the old book in the park"


def test_objects_before_the_subject():
    liking = find_verb("gefallen")
    clause = g.Clause(word_phrase("Buch", "der"), liking, dative=word_phrase("Frau", "der"))
    assert de.main_clause(clause, "dative") == "der alten Frau gefällt das alte Buch"
    assert en.statement(clause, "dative") == "the old woman likes the old book"
    calling = find_verb("abholen")
    clause = g.Clause(word_phrase("Lehrer", "der"), calling, accusative=PRONOUNS[0])
    assert de.subordinate_clause(clause, "weil") == "weil mich der alte Lehrer abholt"
    assert en.statement(clause) == "the old teacher is picking me up"


def test_only_unambiguous_objects_open_a_sentence():
    seeing = find_verb("sehen")
    clause = g.Clause(word_phrase("Frau", "der"), seeing)
    fronts = {
        noun: replace(clause, accusative=word_phrase(noun, "der")).available_fronts
        for noun in ("Mann", "Mädchen", "Tochter")
    }
    assert fronts == {"Mann": ["accusative"], "Mädchen": [], "Tochter": []}


def test_subordinate_clauses_end_with_their_verb(sample):
    finite = {verb.prefix + verb.present(person) for verb in all_verbs() for person in range(6)}
    finite |= {form for paradigm in PARADIGMS.values() for form in paradigm}
    separable = {verb.prefix for verb in all_verbs()} - {""}
    matches = [match for german, _ in sample for match in SUBORDINATE.findall(german)]
    ends = [words.split()[-1] for words in matches]
    assert len(ends) > 1000
    assert not separable & set(ends)
    assert set(ends) <= finite


def test_separated_prefixes_close_main_clauses(sample):
    forms = {}
    for verb in all_verbs():
        if verb.prefix:
            forms.setdefault(verb.present(2), set()).add(verb.prefix)
    closed = 0
    for german, _ in sample:
        words = german.rstrip(".").split()
        simple = "," not in german and words[0] in ("Er", "Sie", "Anna", "Paul", "Maria", "Peter")
        prefixes = forms.get(words[1], set())
        if simple and len(words) > 2 and prefixes & set(words[2:]):
            closed += 1
            assert words[-1] in prefixes, german
    assert closed > 20


def test_text_is_well_formed(sample):
    for german, english in sample:
        assert 4 <= count_tokens(german) <= 25
        for text in (german, english):
            assert text[0].isupper(), text
            assert re.fullmatch(r"[\wÄÖÜäöüß' ,]+[.?!]", text), text
            assert not re.search(r"  | ,|,,|,[.?!]|,\w", text), text
        assert german[-1] == english[-1]
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou]|\bi\b", english), english


def test_corpus_has_all_constructions(sample):
    german = "\n".join(pair[0] for pair in sample)
    patterns = [
        *("weil", "obwohl", "wenn", "dass", "ob", "deshalb", "um", "nicht", "noch nie", "gern"),
        *(r"[Ww]arum", "Wer", "Was", "Wen", "Wem", "bitte", r"\w+zu\w+en", ", der", ", das ich"),
        *("des", "kein", "wird", "muss", "konnte", "regnet", "gefällt", "jeder"),
    ]
    missing = [pattern for pattern in patterns if not re.search(rf"\b{pattern}\b", german)]
    missing = [pattern for pattern in missing if not re.search(rf"{pattern}\b", german)]
    assert not missing
    lexemes = [noun for words in lexicon.NOUNS.values() for noun in words]
    lexemes += {verb.infinitive for verb in all_verbs()}
    lexemes += {word.german for words in lexicon.ADJECTIVES.values() for word in words}
    assert 150 < len(lexemes) < 300
