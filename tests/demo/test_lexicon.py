"""The tables of words are whole and fit together."""

import pytest

from fairseq_cgc.demo import lexicon
from fairseq_cgc.demo.inflection import DETERMINERS
from fairseq_cgc.demo.words import read_table

TABLES = (
    *("adjectives", "adverbials", "declensions", "determiners", "english_verbs", "frames"),
    *("german_irregular", "nouns", "pronouns", "verbs"),
)


@pytest.mark.parametrize("name", TABLES)
def test_every_row_has_every_column_once(name):
    rows = read_table(name)
    assert rows and all(None not in row and None not in row.values() for row in rows)
    assert len({tuple(row.values()) for row in rows}) == len(rows)


def test_words_name_kinds_that_exist():
    kinds = set(lexicon.NOUNS)
    for row in read_table("adjectives"):
        assert set(row["kinds"].split()) <= kinds, row
    of_nouns = ("transitive", "intransitive", "dative", "ditransitive", "experiencer")
    for frame, verbs in lexicon.VERBS.items():
        for verb in verbs:
            assert frame not in of_nouns or set(verb.arguments) <= kinds, verb
            assert verb.frame == "modal" or verb.english.past, f"{verb}: not in english_verbs.tsv"
    assert all(lexicon.ADJECTIVES[kind] for kind in kinds)


def test_frames_and_determiners_have_their_rows():
    assert {row["frame"] for row in read_table("frames")} == set(lexicon.VERBS)
    patterns = {row["pattern"] for row in read_table("declensions")}
    for row in DETERMINERS.values():
        assert {row["declension"], row["adjective"]} <= patterns, row
