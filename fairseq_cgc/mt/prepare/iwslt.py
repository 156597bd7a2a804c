"""IWSLT's text to fairseq data, as fairseq's prepare-iwslt14.sh does it, and its counts.

``OUT/orig`` holds the files of the campaign; ``preparation.py`` makes the rest. The counts stand
beside those of the public archive of 2014.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from tqdm import tqdm

from fairseq_cgc.inference.text.lines import read_lines, write_lines
from fairseq_cgc.inference.text.moses import lower
from fairseq_cgc.inference.text.pipeline import TextPipeline
from fairseq_cgc.mt.prepare.archives import extract_files, list_archive
from fairseq_cgc.mt.prepare.binarize import check_path
from fairseq_cgc.mt.prepare.corpora import download, keep_pair
from fairseq_cgc.mt.prepare.iwslt_files import (
    TEST_SETS_2014,
    Campaign,
    CampaignFiles,
    find_files,
    plain_segment,
    read_parallel,
    segment_text,
)
from fairseq_cgc.mt.prepare.preparation import Prepared, PrepareOptions, TextStep, prepare_from
from fairseq_cgc.support import tables
from fairseq_cgc.support.errors import UserError
from fairseq_cgc.support.files import sha256_of
from fairseq_cgc.support.settings_record import is_done, make_step, only_process_in

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


logger = logging.getLogger(__name__)

# No checksum of it is published: the counts printed at the end prove its content.
URL = "https://dl.fbaipublicfiles.com/fairseq/data/iwslt14/de-en.tgz"

# As fairseq's script calls clean-corpus-n.perl and awk.
MAX_TOKENS = 175
MAX_RATIO = 1.5
VALID_EVERY = 23
"""Every such pair that is left goes to the validation set."""


def iwslt_options(campaign: Campaign, **changes: Any) -> PrepareOptions:
    """The options of fairseq's script; the arguments are other fields to set."""
    return PrepareOptions(
        source_lang=campaign.source_lang,
        target_lang=campaign.target_lang,
        normalize=False,
        lowercase_last=True,
        straight_apostrophes=True,
        strict_tokenizer=True,
        max_tokens=MAX_TOKENS,
        **{"joined_dictionary": False, **changes},
    )


def prepare_iwslt(
    campaign: Campaign, origin: Path | None, out: Path, options: PrepareOptions
) -> tuple[Prepared, CampaignFiles]:
    """Make ``out/orig``, ``out/text``, ``out/bpe`` and ``out/bin``, or what is missing of them.

    Args:
        campaign: what to prepare.
        origin: archive or folder with the files; None downloads the archive of 2014 into
            ``out/download``.
        out: folder to work in; made if needed.
        options: from :func:`iwslt_options`.

    Returns:
        What was prepared, and the files in ``out/orig``.

    Raises:
        UserError: for wrong options, an archive that is unsafe, damaged or lacks files, text that
            is not parallel or not UTF-8 (none of the folders is made then); a folder of ``out``
            that was made otherwise.
    """
    options.check()
    campaign.check()
    check_path(out)
    settings: dict[str, Any] = {
        "languages": sorted(campaign.langs),
        "year": campaign.year,
        "test_sets": list(campaign.test_sets),
    }
    if origin is None:
        if settings["languages"] != ["de", "en"] or campaign.year != 2014:
            raise UserError("--from is needed: only German-English of 2014 has a public address")
        settings["from"] = URL
    elif origin.is_dir():
        files = find_files(_paths_in(origin), campaign, f"--from {origin}")
        for path in files.all():
            settings[f"{PurePosixPath(path).name} (SHA-256)"] = sha256_of(origin / path)
    elif origin.is_file():
        settings["archive (SHA-256)"] = sha256_of(origin)
    else:
        raise UserError(f"--from {origin} does not exist")
    orig = out / "orig"
    with only_process_in(out):
        if not is_done(orig, settings):
            make_step(orig, settings, functools.partial(_make_orig, campaign, origin, out))
    files = find_files(_paths_in(orig), campaign, str(orig))
    text_settings = {
        "source_lang": campaign.source_lang,
        "target_lang": campaign.target_lang,
        "recipe": "prepare-iwslt14.sh",
        "year": campaign.year,
        "test_sets": list(files.tests),
        **{f"{name} (SHA-256)": sha256_of(orig / name) for name in files.all()},
    }
    make = functools.partial(_make_text, campaign, files, orig, options)
    step = TextStep(text_settings, ("train", "valid", "test"), make)
    return prepare_from(step, out, options), files


def _paths_in(folder: Path) -> list[str]:
    """Files directly in a folder or in one of its folders."""
    paths = [*folder.glob("*"), *folder.glob("*/*")]
    return [path.relative_to(folder).as_posix() for path in paths if path.is_file()]


def _make_orig(campaign: Campaign, origin: Path | None, out: Path, folder: Path) -> dict[str, Any]:
    holder = URL if origin is None else f"--from {origin}"
    if origin is None:
        origin = download(URL, out / "download" / PurePosixPath(URL).name, None)
    if origin.is_dir():
        files = find_files(_paths_in(origin), campaign, holder)
        for path in files.all():
            shutil.copyfile(origin / path, folder / PurePosixPath(path).name)
    else:
        files = find_files(list_archive(origin), campaign, holder)
        targets = {path: folder / PurePosixPath(path).name for path in files.all()}
        extract_files(origin, targets)
    # Told now, bad text leaves nothing behind.
    read_parallel(folder, files.train, campaign.train_text, holder)
    for names in files.tests.values():
        read_parallel(folder, names, segment_text, holder)
    return {}


def _make_text(
    campaign: Campaign, files: CampaignFiles, orig: Path, options: PrepareOptions, folder: Path
) -> dict[str, Any]:
    train = read_parallel(orig, files.train, campaign.train_text, str(orig))
    tests = [read_parallel(orig, names, segment_text, str(orig)) for names in files.tests.values()]
    test = {lang: [line for lines in tests for line in lines[lang]] for lang in campaign.langs}
    pairs = {"test": len(test[campaign.source_lang])}
    pipeline = options.pipeline()

    # The script cleans before it lower-cases, and leaves apostrophes in training text alone.
    as_it_is = dataclasses.replace(pipeline, lowercase=False, straight_apostrophes=False)
    tokens = {
        lang: _tokenize(as_it_is, "train", lines, lang, options) for lang, lines in train.items()
    }
    sides = [side[lang] for side in (tokens, train) for lang in campaign.langs]
    rows = list(zip(*sides, strict=True))
    kept = [row for row in rows if keep_pair(row[0], row[1], MAX_TOKENS, MAX_RATIO)]
    splits = {
        "train": [row for number, row in enumerate(kept, start=1) if number % VALID_EVERY],
        "valid": kept[VALID_EVERY - 1 :: VALID_EVERY],
    }
    logger.info(
        "train: %d pairs kept, %d dropped (a side empty, of more than %d tokens, or %s times as "
        "long as the other, or with a token too long)",
        len(kept), len(rows) - len(kept), MAX_TOKENS, MAX_RATIO,
    )  # fmt: skip
    if not splits["valid"]:
        raise UserError(
            f"{orig}: {len(kept)} training pairs are fit for use, but {VALID_EVERY} are needed "
            "for one validation pair"
        )
    for split, chosen in splits.items():
        pairs[split] = len(chosen)
        for side, lang in enumerate(campaign.langs):
            tidy = (lower(" ".join(row[side].split())) for row in chosen)
            write_lines(folder / f"{split}.{lang}", tidy)
            if split == "valid":
                raw = (row[len(campaign.langs) + side] for row in chosen)
                write_lines(folder / "raw" / f"valid.{lang}", raw)

    empty = 0
    for lang in campaign.langs:
        lines = _tokenize(pipeline, "test", test[lang], lang, options)
        empty += lines.count("")
        write_lines(folder / f"test.{lang}", lines)
        write_lines(folder / "raw" / f"test.{lang}", map(plain_segment, test[lang]))
    if empty:
        logger.warning("test: %d segments have no text; they are kept", empty)
    return {"pairs": pairs, "dropped": len(rows) - len(kept)}


def _tokenize(
    pipeline: TextPipeline, split: str, lines: list[str], lang: str, options: PrepareOptions
) -> list[str]:
    tokens: Iterable[str] = pipeline.tokenize(lines, lang, options.workers)
    return list(tqdm(tokens, total=len(lines), desc=f"tokenise {split}.{lang}", unit="line"))
