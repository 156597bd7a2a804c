"""The files of an IWSLT campaign: their names, and the text in them.

A language pair comes as a folder, or an archive of one. It holds the training text of each
language (``train.tags.de-en.de``: a sentence a line, between lines of tags about each talk) and
evaluation sets as XML (``IWSLT14.TED.tst2010.de-en.de.xml``). The text is taken from them as
fairseq's prepare-iwslt14.sh does it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from xml.sax.saxutils import unescape

from fairseq_cgc.inference.text.lines import decode_lines
from fairseq_cgc.inference.text.moses import check_language
from fairseq_cgc.support.errors import UserError

#: The sets that make up the test set of 2014, in this order.
TEST_SETS_2014 = ("TED.dev2010", "TEDX.dev2012", "TED.tst2010", "TED.tst2011", "TED.tst2012")

_TAG_LINES = ("<url>", "<talkid>", "<keywords>")
_LATER_TAG_LINES = ("<speaker>", "<reviewer", "<translator", "<doc", "</doc>")
_TAGS = re.compile("</?(?:title|description)>")
_SEGMENT_START = re.compile(r'<seg id="[0-9]*">\s*')
_SEGMENT_END = re.compile(r"\s*</seg>\s*")
_LISTED = 12  # names in a message

TextLines = Callable[[Iterable[str]], Iterator[str]]


@dataclass(frozen=True)
class Campaign:
    """A language pair of a year, and the sets to test on."""

    source_lang: str
    target_lang: str
    year: int = 2014
    test_sets: tuple[str, ...] = ()
    """``tst2010`` or ``TED.tst2010``, in order; empty for the five of 2014."""

    @property
    def langs(self) -> tuple[str, str]:
        """Source and target language."""
        return self.source_lang, self.target_lang

    def check(self) -> None:
        """Raise UserError for a value that cannot be right."""
        for option, lang in zip(("--source-lang", "--target-lang"), self.langs, strict=True):
            if not re.fullmatch("[a-z]{2,3}", lang):  # the files are named after it
                raise UserError(
                    f"{option} is {lang}, but must be a two- or three-letter code such as de"
                )
            check_language(lang, option)
        if not 2004 <= self.year <= 2099:
            raise UserError(f"--year is {self.year}, but must be a year such as 2014")
        for name in self.test_sets:
            if not re.fullmatch(r"[\w.]+", name):
                raise UserError(f"--test-sets has {name!r}, but must have names such as tst2010")

    def train_text(self, lines: Iterable[str]) -> Iterator[str]:
        """The sentences among the lines of a training file, without tags."""
        # Campaigns after 2014 have more tags.
        dropped = _TAG_LINES if self.year == 2014 else _TAG_LINES + _LATER_TAG_LINES
        for line in lines:
            if not any(tag in line for tag in dropped):
                yield _TAGS.sub("", line).strip()


@dataclass(frozen=True)
class CampaignFiles:
    """The files of a campaign, by their paths relative to where they were found."""

    train: dict[str, str]
    """Language -> training text."""
    tests: dict[str, dict[str, str]]
    """Test set, such as ``TED.tst2010`` -> language -> XML file."""

    def all(self) -> list[str]:
        """Every path."""
        return [path for files in (self.train, *self.tests.values()) for path in files.values()]


def segment_text(lines: Iterable[str]) -> Iterator[str]:
    """The segments among the lines of an XML file, with entities as they are."""
    for line in lines:
        if "<seg id" in line:
            yield _SEGMENT_END.sub("", _SEGMENT_START.sub("", line)).strip()


def plain_segment(segment: str) -> str:
    """A segment with XML's five entities replaced, as a reader sees it."""
    return unescape(segment, {"&quot;": '"', "&apos;": "'"}).strip()


def find_files(paths: Iterable[str], campaign: Campaign, holder: str) -> CampaignFiles:
    """Find the files of a campaign among others.

    Args:
        paths: relative POSIX paths.
        campaign: what to look for. Files may be named after either order of its languages.
        holder: the archive or folder, for messages.

    Raises:
        UserError: naming what is missing and what is there.
    """
    folders: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for path in sorted(paths):
        folders[str(PurePosixPath(path).parent)][PurePosixPath(path).name] = path
    source, target = campaign.langs
    found = {
        f"{folder}/train.tags.{pair}": (files, pair)
        for folder, files in folders.items()
        for pair in (f"{source}-{target}", f"{target}-{source}")
        if any(f"train.tags.{pair}.{lang}" in files for lang in campaign.langs)
    }
    if not found:
        raise UserError(
            f"{holder} has no train.tags.{source}-{target}.{source} (or {target}-{source}); "
            f"it holds {_listed(name for files in folders.values() for name in files)}"
        )
    if len(found) > 1:
        raise UserError(f"{holder} has more than one corpus: {', '.join(found)}; give just one")
    ((files, pair),) = found.values()
    train = {lang: f"train.tags.{pair}.{lang}" for lang in campaign.langs}
    tests = {
        test_set: {lang: _xml_name(campaign, test_set, pair, lang) for lang in campaign.langs}
        for test_set in _full_names(files, campaign, pair, holder)
    }
    wanted = CampaignFiles(train, tests)
    if missing := [name for name in wanted.all() if name not in files]:
        raise UserError(f"{holder} lacks {_listed(missing)}; it holds {_listed(files)}")
    return CampaignFiles(
        train={lang: files[name] for lang, name in train.items()},
        tests={
            test_set: {lang: files[name] for lang, name in names.items()}
            for test_set, names in tests.items()
        },
    )


def _full_names(files: Iterable[str], campaign: Campaign, pair: str, holder: str) -> list[str]:
    """The campaign's test sets by their full names, such as TED.tst2010."""
    pattern = re.compile(re.escape(_xml_name(campaign, "*", pair, "*")).replace(r"\*", "(.+)"))
    matches = [match for name in files if (match := pattern.fullmatch(name))]
    there = sorted({match[1] for match in matches if match[2] in campaign.langs})
    if not campaign.test_sets and campaign.year != 2014:
        raise UserError(
            f"--test-sets must be given for {campaign.year}; {holder} has "
            f"{' '.join(there) or 'none'}"
        )
    names = []
    for name in campaign.test_sets or TEST_SETS_2014:
        full = [known for known in there if known == name or known.endswith(f".{name}")]
        if len(full) > 1:
            raise UserError(f"--test-sets has {name}, but {holder} has {' and '.join(full)}")
        names.append(full[0] if full else name)
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"--test-sets has {name} twice")
    return names


def _xml_name(campaign: Campaign, test_set: str, pair: str, lang: str) -> str:
    return f"IWSLT{campaign.year % 100:02d}.{test_set}.{pair}.{lang}.xml"


def read_parallel(
    folder: Path, names: Mapping[str, str], text: TextLines, holder: str
) -> dict[str, list[str]]:
    """The text of one file in both languages.

    Args:
        folder: holds the files, without folders of its own.
        names: language -> path; only its last part counts.
        text: :meth:`Campaign.train_text` or :func:`segment_text`.
        holder: where the files come from, for messages.

    Returns:
        Language -> lines, the same number for each.

    Raises:
        UserError: if a file is not UTF-8 (with the line's number) or has no text, or the numbers
            of lines of text differ.
    """
    lines = {}
    for lang, name in names.items():
        with (folder / PurePosixPath(name).name).open("rb") as stream:
            lines[lang] = list(text(decode_lines(stream, f"{holder}: {name}")))
    counts = {name: len(lines[lang]) for lang, name in names.items()}
    if len(set(counts.values())) > 1:
        told = ", but ".join(f"{name} has {count}" for name, count in counts.items())
        raise UserError(f"{holder}: {told} lines of text; parallel files need the same number")
    for name, count in counts.items():
        if count == 0:
            raise UserError(f"{holder}: {name} has no text")
    return lines


def _listed(names: Iterable[str]) -> str:
    names = sorted(names)
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return (", ".join(names[:_LISTED]) or "nothing") + more
