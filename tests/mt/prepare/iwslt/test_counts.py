from pathlib import Path

import pytest

from fairseq_cgc.mt.prepare.iwslt import Count, compare_counts, counts_table, iwslt_options
from fairseq_cgc.mt.prepare.iwslt_files import TEST_SETS_2014, Campaign, CampaignFiles
from fairseq_cgc.mt.prepare.preparation import Prepared

REFERENCE = {
    "train pairs": 160239, "valid pairs": 7283, "test pairs": 6750,
    "train tokens de": 4035591, "train tokens en": 3949114,
    "valid tokens de": 182592, "valid tokens en": 178622,
    "test tokens de": 161838, "test tokens en": 156928,
    "dictionary de": 8848, "dictionary en": 6632,
}  # fmt: skip


def compare(tmp_path, campaign, test_sets=TEST_SETS_2014, **options):
    for split in ("train", "valid", "test"):
        for lang, text in (("de", "a@@ b c\n\n"), ("en", "a\u00a0b\nc\n"), ("fr", "\n")):
            (tmp_path / f"{split}.{lang}").write_text(text, encoding="utf-8")
    prepared = Prepared(
        data_dir=Path("bin"),
        pairs={"train": 5, "valid": 4, "test": 3},
        dropped=0,
        dictionary_sizes={campaign.source_lang: 8848, campaign.target_lang: 9},
    )
    files = CampaignFiles({}, {name: {} for name in test_sets})
    return compare_counts(campaign, files, iwslt_options(campaign, **options), prepared, tmp_path)


def test_counts_of_the_default_preparation(tmp_path):
    counts = compare(tmp_path, Campaign("de", "en"))
    assert {count.name: count.reference for count in counts} == REFERENCE
    found = {count.name: count.found for count in counts}
    assert found["test pairs"] == 3
    assert found["train tokens de"] == 3 + 2
    assert found["train tokens en"] == 3 + 2
    assert found["dictionary de"] == 8848


def test_the_other_direction_has_the_references_of_its_languages(tmp_path):
    counts = compare(tmp_path, Campaign("en", "de"))
    assert {count.name: count.reference for count in counts} == REFERENCE
    assert counts[3].name == "train tokens en"


@pytest.mark.parametrize(
    ("campaign", "options", "compared"),
    [
        (Campaign("de", "en", 2015), {}, ()),
        (Campaign("fr", "en"), {}, ()),
        (Campaign("de", "en"), {"test_sets": ("TED.tst2010",)}, ()),
        (Campaign("de", "en"), {"subwords": "sentencepiece"}, ("pairs",)),
        (Campaign("de", "en"), {"bpe_size": 9999}, ("pairs",)),
        (Campaign("de", "en"), {"joined_dictionary": True}, ("pairs", "tokens")),
        (Campaign("de", "en"), {"workers": 3}, ("pairs", "tokens", "dictionary")),
    ],
)
def test_references_apply_only_where_they_can(tmp_path, campaign, options, compared):
    counts = compare(tmp_path, campaign, **options)
    applied = [count.name for count in counts if count.reference is not None]
    assert applied == [name for name in REFERENCE if any(kind in name for kind in compared)]


def test_table_of_equal_counts():
    lines = counts_table([Count("train pairs", 160239, 160239), Count("x", 7, None)]).split("\n")
    assert [line.split() for line in lines] == [
        ["here", "reference"],
        ["train", "pairs", "160,239", "160,239", "ok"],
        ["x", "7", "-"],
        ["all", "1", "counts", "equal", "the", "reference"],
    ]


def test_table_of_differing_counts():
    counts = [Count("a", 1, 1), Count("b", 2, 1), Count("c", 0, 1)]
    lines = counts_table(counts).split("\n")
    assert [line.split()[-1] for line in lines[1:-1]] == ["ok", "DIFFERS", "DIFFERS"]
    assert lines[-1].startswith("2 of 3 counts differ from the reference: this is not the public")


def test_table_without_references():
    assert counts_table([Count("a", 1, None)]).endswith("\nno reference counts for these settings")
