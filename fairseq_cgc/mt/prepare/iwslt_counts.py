"""Counts of a prepared IWSLT corpus beside those of the public archive of 2014."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fairseq_cgc.inference.text.lines import read_lines
from fairseq_cgc.mt.prepare.iwslt_files import TEST_SETS_2014, Campaign, CampaignFiles
from fairseq_cgc.mt.prepare.preparation import Prepared, PrepareOptions
from fairseq_cgc.support import tables

# What fairseq's script makes of the public archive.
_PAIRS = {"train": 160_239, "valid": 7_283, "test": 6_750}
_TOKENS = {  # subwords with one end of sentence a line
    "train": {"de": 4_035_591, "en": 3_949_114},
    "valid": {"de": 182_592, "en": 178_622},
    "test": {"de": 161_838, "en": 156_928},
}
_DICTIONARY_SIZES = {"de": 8_848, "en": 6_632}  # with fairseq's 4 special symbols
_MERGES = 10_000


@dataclass(frozen=True)
class Count:
    """One row of the table."""

    name: str
    found: int
    reference: int | None
    """None where the reference was made with other settings."""


def compare_counts(
    campaign: Campaign,
    files: CampaignFiles,
    options: PrepareOptions,
    prepared: Prepared,
    bpe: Path,
) -> list[Count]:
    """Count pairs, tokens and dictionary entries.

    Args:
        campaign: what was prepared.
        files: the test sets that were used.
        options: how.
        prepared: pairs and dictionary sizes.
        bpe: folder with the subwords, ``SPLIT.LANG``.
    """
    same_text = (
        sorted(campaign.langs) == ["de", "en"]
        and campaign.year == 2014
        and tuple(files.tests) == TEST_SETS_2014
    )
    same_subwords = same_text and options.subwords == "subword_nmt" and options.bpe_size == _MERGES
    same_dictionaries = same_subwords and not options.joined_dictionary
    counts = [
        Count(f"{split} pairs", prepared.pairs[split], _PAIRS[split] if same_text else None)
        for split in _PAIRS
    ]
    for split in _PAIRS:
        for lang in campaign.langs:
            reference = _TOKENS[split][lang] if same_subwords else None
            found = _count_tokens(bpe / f"{split}.{lang}")
            counts.append(Count(f"{split} tokens {lang}", found, reference))
    for lang, found in prepared.dictionary_sizes.items():
        reference = _DICTIONARY_SIZES[lang] if same_dictionaries else None
        counts.append(Count(f"dictionary {lang}", found, reference))
    return counts


def counts_table(counts: Sequence[Count]) -> str:
    """The counts as lines of text, with a verdict as the last one."""
    rows = [("", "here", "reference", "")]
    compared = [count for count in counts if count.reference is not None]
    differing = [count for count in compared if count.found != count.reference]
    for count in counts:
        reference, verdict = "-", ""
        if count.reference is not None:
            reference = f"{count.reference:,}"
            verdict = "DIFFERS" if count in differing else "ok"
        rows.append((count.name, f"{count.found:,}", reference, verdict))
    lines = [*tables.text(rows, "lrrl")]
    if not compared:
        lines.append("no reference counts for these settings")
    elif differing:
        lines.append(
            f"{len(differing)} of {len(compared)} counts differ from the reference: this is not "
            "the public archive, or another tokeniser or subword learner was at work"
        )
    else:
        lines.append(f"all {len(compared)} counts equal the reference")
    return "\n".join(lines)


def _count_tokens(path: Path) -> int:
    """Tokens between spaces and one end of sentence a line."""
    return sum(len(line.split()) + 1 for line in read_lines(path))
