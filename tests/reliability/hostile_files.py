"""Hostile files: corpora, archives, what a preparation makes of them, and data folders."""

from __future__ import annotations

import functools
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hostile_inputs as hostile
from fairseq.data import data_utils
from hypothesis import strategies as st
from iwslt_archive import campaign_files
from surroundings import (
    Lost,
    Surroundings,
    ends_clearly,
    fairseq_in_this_process,
    nothing_half,
)
from target import Target

from fairseq_cgc.inference.search_options import SearchOptions
from fairseq_cgc.inference.text.lines import read_lines
from fairseq_cgc.inference.text.subwords import MODEL_FILES
from fairseq_cgc.inference.translator import Translator
from fairseq_cgc.mt.prepare.archives import extract_files, list_archive
from fairseq_cgc.mt.prepare.corpora import check_pairs
from fairseq_cgc.mt.prepare.iwslt import iwslt_options, prepare_iwslt
from fairseq_cgc.mt.prepare.iwslt_files import Campaign
from fairseq_cgc.mt.prepare.preparation import PrepareOptions, prepare


def _read(place: Surroundings, case: tuple[bytes, bytes, bool, bool]) -> bool:
    source, target, packed, allow_empty = case
    folder = place.fresh()
    paths = [folder / f"text.{lang}{'.gz' if packed else ''}" for lang in ("de", "en")]
    for path, content in zip(paths, (source, target), strict=True):
        path.write_bytes(content)

    def act() -> None:
        found = check_pairs(*paths, allow_empty=allow_empty)
        counts = [sum(1 for _ in read_lines(path)) for path in paths]
        if counts != [found, found]:
            raise Lost(f"{found} pairs, but {counts} lines")

    return ends_clearly(act)


FILES = Target(
    st.one_of(
        st.tuples(hostile.files, hostile.files, st.just(False), st.booleans()),
        st.tuples(hostile.gzipped(), hostile.gzipped(), st.just(True), st.booleans()),
    ),
    _read,
    12,
)


def _unpack(place: Surroundings, content: bytes) -> bool:
    folder = place.fresh()
    archive, inside = folder / "x.tgz", folder / "inside"
    archive.write_bytes(content)
    inside.mkdir()

    def act() -> None:
        found = list_archive(archive)
        extract_files(archive, {name: inside / str(i) for i, name in enumerate(found)})

    succeeded = ends_clearly(act)
    if {path.name for path in folder.iterdir()} != {"x.tgz", "inside"}:
        raise Lost(f"files outside of the folder: {sorted(folder.iterdir())}")
    return succeeded


ARCHIVES = Target(hostile.archives(), _unpack, 16)


@dataclass(frozen=True)
class Preparation:
    """A corpus and options for it."""

    files: tuple[bytes, ...]
    """Of train and valid, German and English."""
    folder: str
    options: dict[str, Any]


def _aligned(pairs: list[tuple[str, str]]) -> tuple[bytes, ...]:
    """Honest files of odd lines, with enough of a language to learn subwords from."""
    good = [("der hund der hund", "the dog the dog")] * 4
    sides = [[pair[side] for pair in [*good, *pairs]] for side in (0, 1)]
    return tuple("".join(line + "\n" for line in side).encode() for side in sides * 2)


_corpora = st.one_of(
    st.lists(st.tuples(hostile.short_lines, hostile.short_lines), max_size=8).map(_aligned),
    st.lists(st.tuples(hostile.short_lines, hostile.short_lines), max_size=8).map(_aligned),
    st.tuples(*[hostile.files] * 4),
)
_preparations = st.builds(
    Preparation,
    _corpora,
    hostile.mostly(st.just("out"), hostile.names, 3),
    st.fixed_dictionaries(
        {},
        optional={
            "tokenizer": st.sampled_from(["moses", "none", "spacy"]),
            "normalize": st.booleans(),
            "lowercase": st.booleans(),
            "subwords": st.sampled_from([*MODEL_FILES, "none"]),
            "bpe_size": st.sampled_from([-1, 0, 1, 8, 30, 200, 10**6, 10**12]),
            "joined_dictionary": st.booleans(),
            "max_tokens": st.sampled_from([0, 1, 4, 250, 10**9]),
            "lowercase_last": st.booleans(),
            "strict_tokenizer": st.booleans(),
        },
    ),
)


def _prepare(place: Surroundings, case: Preparation) -> bool:
    folder = place.fresh()
    names = [(split, lang) for split in ("train", "valid") for lang in ("de", "en")]
    raw: dict[str, dict[str, Path]] = {"train": {}, "valid": {}}
    for (split, lang), content in zip(names, case.files, strict=True):
        raw[split][lang] = folder / f"{split}.{lang}"
        raw[split][lang].write_bytes(content)
    out = folder / "work" / case.folder
    found = []

    def act() -> None:
        found.append(prepare(raw, out, PrepareOptions("de", "en", **case.options)))

    with fairseq_in_this_process():
        ends_clearly(act)
    if (folder / "work").exists():
        nothing_half(folder / "work")
    if found:
        _check_prepared(found[0].data_dir, found[0].pairs)
    return bool(found)


def _check_prepared(data_dir: Path, pairs: dict[str, int]) -> None:
    for split, count in pairs.items():
        for lang in ("de", "en"):
            data = data_utils.load_indexed_dataset(str(data_dir / f"{split}.de-en.{lang}"))
            if len(data) != count:
                raise Lost(f"{split}.{lang}: {len(data)} sentences, but {count} pairs")


PREPARATION = Target(_preparations, _prepare, 8)


@functools.cache
def _campaign() -> dict[str, bytes]:
    return campaign_files()


@st.composite
def _campaigns(draw: st.DrawFn) -> tuple[bytes, bool]:
    """The archive of a campaign with one thing wrong."""
    import tarfile

    files = dict(_campaign())
    how = draw(st.sampled_from(["file", "member", "bytes", "name", "missing"]))
    name = draw(st.sampled_from(sorted(files)))
    if how == "file":
        files[name] = draw(hostile.damaged(files[name]))
    elif how == "missing":
        del files[name]
    elif how == "name":
        files[draw(st.sampled_from(["../", "/", "./", "sub/"])) + name] = files.pop(name)
    found = []
    for member, content in files.items():
        info = tarfile.TarInfo(f"de-en/{member}")
        info.size = len(content)
        found.append((info, content))
    if how == "member":
        found.insert(draw(st.integers(0, len(found))), draw(hostile.members()))
    content = hostile.tar(found, tarfile.PAX_FORMAT)
    if how == "bytes":
        content = draw(hostile.damaged(content))
    return content, draw(st.booleans())


def _prepare_campaign(place: Surroundings, case: tuple[bytes, bool]) -> bool:
    content, lowers = case
    folder = place.fresh()
    archive = folder / "de-en.tar"
    archive.write_bytes(content)
    campaign = Campaign("de", "en")
    options = iwslt_options(campaign, bpe_size=30 if lowers else 60)
    with fairseq_in_this_process():
        succeeded = ends_clearly(lambda: prepare_iwslt(campaign, archive, folder / "out", options))
    nothing_half(folder)
    if not {path.name for path in folder.iterdir()} <= {"de-en.tar", "out"}:
        raise Lost(f"files outside of the folder: {sorted(folder.iterdir())}")
    return succeeded


CAMPAIGN = Target(_campaigns(), _prepare_campaign, 2)


@st.composite
def _damages(draw: st.DrawFn) -> tuple[str, Any]:
    """A file of the data folder, and what to do to it."""
    name = draw(st.sampled_from(["preparation.json", "dict.de.txt", "dict.en.txt", "code"]))
    if name == "preparation.json" and draw(st.booleans()):
        values = st.one_of(
            st.none(), st.booleans(), st.integers(), hostile.odd_text, st.just([]), st.just({})
        )
        keys = st.sampled_from(
            [
                *("source_lang", "target_lang", "tokenizer", "normalize", "lowercase", "subwords"),
                *("subword_model", "joined_dictionary", "raw", "strict_tokenizer", "unknown"),
                *("data_dir", "lowercase_last"),
            ]
        )
        return name, draw(st.dictionaries(keys, values, max_size=2))
    if draw(st.integers(1, 6)) == 1:
        return name, draw(st.sampled_from([b"[" * 100_000, b"", b"\0", b"\xff\xfe", b"a b c\n"]))
    return name, draw(st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=4)), max_size=3))


def _load(place: Surroundings, case: tuple[str, Any]) -> bool:
    name, damage = case
    folder = place.fresh() / "data"
    folder.mkdir()
    for part in ("preparation.json", "dict.de.txt", "dict.en.txt", "code"):
        shutil.copyfile(place.data / part, folder / part)
    path = folder / name
    if isinstance(damage, dict):
        path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **damage}), "utf-8")
    elif isinstance(damage, bytes):
        path.write_bytes(damage)
    else:
        content = bytearray(path.read_bytes())
        for share, new in damage:
            at = int(share * len(content))
            content[at : at + len(new)] = new
        path.write_bytes(content)

    def act() -> None:
        translator = Translator(place.checkpoint, folder, SearchOptions(beam=1, cpu=True))
        list(translator.translate(["Der Hund sieht den Ball."]))

    return ends_clearly(act)


DATA_FOLDER = Target(_damages(), _load, 2)
