"""IWSLT's text to fairseq data, as fairseq's prepare-iwslt14.sh does it, and its counts.

``OUT/orig`` holds the files of the campaign; ``preparation.py`` makes the rest. The counts are
compared with those of the public archive of 2014.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from tqdm import tqdm

from fairseq_cgc.inference.text.lines import read_lines, write_lines
from fairseq_cgc.inference.text.moses import lower
from fairseq_cgc.inference.text.pipeline import TextPipeline
from fairseq_cgc.mt.prepare.archives import extract_files, list_archive
from fairseq_cgc.mt.prepare.binarize import check_path
from fairseq_cgc.mt.prepare.corpora import download, write_pairs
from fairseq_cgc.mt.prepare.iwslt_files import (
    TEST_SETS_2014,
    Campaign,
    CampaignFiles,
    find_files,
    plain_segment,
    read_parallel,
    segment_text,
)
from fairseq_cgc.mt.prepare.options import PrepareOptions
from fairseq_cgc.mt.prepare.preparation import Prepared, TextStep, log_cleaning, prepare_from
from fairseq_cgc.support import tables
from fairseq_cgc.support.errors import UserError
from fairseq_cgc.support.files import sha256_of
from fairseq_cgc.support.settings_record import is_done, make_step, only_process_in

logger = logging.getLogger(__name__)

# No checksum of it is published: the counts printed at the end prove its content.
URL = "https://dl.fbaipublicfiles.com/fairseq/data/iwslt14/de-en.tgz"

#: Of the pairs that are left after cleaning, every such one goes to the validation set.
VALID_EVERY = 23

_SPLITS = ("train", "valid", "test")
#: What fairseq's script makes of the public archive: tokens are subwords with one end of sentence a
#: line, dictionaries have fairseq's 4 special symbols.
_REFERENCE = {
    "train pairs": 160_239,
    "valid pairs": 7_283,
    "test pairs": 6_750,
    "train tokens de": 4_035_591,
    "train tokens en": 3_949_114,
    "valid tokens de": 182_592,
    "valid tokens en": 178_622,
    "test tokens de": 161_838,
    "test tokens en": 156_928,
    "dictionary de": 8_848,
    "dictionary en": 6_632,
}


def iwslt_options(campaign: Campaign, **changes: Any) -> PrepareOptions:
    """The options of fairseq's script; the arguments are other fields to set."""
    return PrepareOptions(
        source_lang=campaign.source_lang,
        target_lang=campaign.target_lang,
        normalize=False,
        lowercase_last=True,
        straight_apostrophes=True,
        strict_tokenizer=True,
        max_tokens=175,
        max_ratio=1.5,
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
            that was made with other settings.
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
    step = TextStep(text_settings, _SPLITS, make)
    return prepare_from(step, out, options), files


def _paths_in(folder: Path) -> list[str]:
    """Files directly in a folder or in one of its folders."""
    paths = [*folder.glob("*"), *folder.glob("*/*")]
    return [path.relative_to(folder).as_posix() for path in paths if path.is_file()]


def _make_orig(campaign: Campaign, origin: Path | None, out: Path, folder: Path) -> dict[str, Any]:
    holder = URL if origin is None else f"--from {origin}"
    if origin is None:
        origin = download(URL, out / "download" / PurePosixPath(URL).name, None)
    try:
        paths = _paths_in(origin) if origin.is_dir() else list_archive(origin)
    except UserError as error:
        if holder != URL:
            raise
        raise UserError(f"{error}; remove this file to download it again") from error
    files = find_files(paths, campaign, holder)
    targets = {path: folder / PurePosixPath(path).name for path in files.all()}
    if origin.is_dir():
        for path, target in targets.items():
            shutil.copyfile(origin / path, target)
    else:
        extract_files(origin, targets)
    # Bad text that is found now leaves nothing behind.
    read_parallel(folder, files.train, campaign.train_text, holder)
    for names in files.tests.values():
        read_parallel(folder, names, segment_text, holder)
    return {}


def _make_text(
    campaign: Campaign, files: CampaignFiles, orig: Path, options: PrepareOptions, folder: Path
) -> dict[str, Any]:
    langs = campaign.langs
    pipeline = options.pipeline()
    # The script cleans before it lower-cases, and leaves apostrophes in training text alone.
    cased = dataclasses.replace(pipeline, lowercase=False, straight_apostrophes=False)
    train = read_parallel(orig, files.train, campaign.train_text, str(orig))
    tokens = [_tokenize(cased, "train", train[lang], lang, options) for lang in langs]
    # A row: the tokens of both sides, and the raw text of both.
    rows = list(zip(*tokens, *train.values(), strict=True))
    kept = [row for row in rows if options.keeps(row[0], row[1])]
    dropped = len(rows) - len(kept)
    log_cleaning(len(kept), dropped, options)
    if len(kept) < VALID_EVERY:
        raise UserError(
            f"{orig}: {len(kept)} training pairs are fit for use, but {VALID_EVERY} are needed "
            "for one validation pair"
        )
    splits = {
        "train": [row for number, row in enumerate(kept, start=1) if number % VALID_EVERY],
        "valid": kept[VALID_EVERY - 1 :: VALID_EVERY],
    }
    pairs = {}
    for split, chosen in splits.items():
        tidy = ([lower(" ".join(side.split())) for side in row[:2]] for row in chosen)
        pairs[split] = write_pairs(folder, split, langs, tidy)
    write_pairs(folder / "raw", "valid", langs, (row[2:] for row in splits["valid"]))

    tests = [read_parallel(orig, names, segment_text, str(orig)) for names in files.tests.values()]
    empty = 0
    for lang in langs:
        raw = [line for lines in tests for line in lines[lang]]
        lines = _tokenize(pipeline, "test", raw, lang, options)
        empty += lines.count("")
        pairs["test"] = write_lines(folder / f"test.{lang}", lines)
        write_lines(folder / "raw" / f"test.{lang}", map(plain_segment, raw))
    if empty:
        logger.warning("test: %d segments have no text; they are kept", empty)
    return {"pairs": pairs, "dropped": dropped}


def _tokenize(
    pipeline: TextPipeline, split: str, lines: list[str], lang: str, options: PrepareOptions
) -> list[str]:
    tokens = pipeline.tokenize(lines, lang, options.workers)
    return list(tqdm(tokens, total=len(lines), desc=f"tokenise {split}.{lang}", unit="line"))


@dataclass(frozen=True)
class Count:
    """A count beside that of the public archive."""

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
    """Count pairs, tokens (in the files ``SPLIT.LANG`` of ``bpe``) and dictionary entries."""
    same_text = (
        sorted(campaign.langs) == ["de", "en"]
        and campaign.year == 2014
        and tuple(files.tests) == TEST_SETS_2014
    )
    same_subwords = same_text and options.subwords == "subword_nmt" and options.bpe_size == 10_000
    same_dictionaries = same_subwords and not options.joined_dictionary
    same = {"pairs": same_text, "tokens": same_subwords, "dictionary": same_dictionaries}
    compared = [kind for kind, is_same in same.items() if is_same]
    found = {f"{split} pairs": prepared.pairs[split] for split in _SPLITS}
    for split in _SPLITS:
        for lang in campaign.langs:
            lines = read_lines(bpe / f"{split}.{lang}")
            found[f"{split} tokens {lang}"] = sum(len(line.split()) + 1 for line in lines)
    found |= {f"dictionary {lang}": size for lang, size in prepared.dictionary_sizes.items()}
    return [
        Count(name, count, _REFERENCE[name] if any(kind in name for kind in compared) else None)
        for name, count in found.items()
    ]


def counts_table(counts: Sequence[Count]) -> str:
    """The counts as lines of text; the last line says whether they equal the reference."""
    rows = [("", "here", "reference", "")]
    compared = differing = 0
    for count in counts:
        reference, verdict = "-", ""
        if count.reference is not None:
            reference = f"{count.reference:,}"
            verdict = "ok" if count.found == count.reference else "DIFFERS"
            compared += 1
            differing += verdict != "ok"
        rows.append((count.name, f"{count.found:,}", reference, verdict))
    if not compared:
        conclusion = "no reference counts for these settings"
    elif differing:
        conclusion = (
            f"{differing} of {compared} counts differ from the reference: this is not the public "
            "archive, or the tokeniser or subword learner is another version"
        )
    else:
        conclusion = f"all {compared} counts equal the reference"
    return "\n".join([*tables.text(rows, "lrrl"), conclusion])
