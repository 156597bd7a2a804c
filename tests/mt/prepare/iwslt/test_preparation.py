"""The preparation of IWSLT on a small archive, against lines worked out by hand."""

import dataclasses
import io
import logging
import shutil
import tarfile

import iwslt_archive as small
import pytest
from fairseq.data import Dictionary, data_utils
from subword_nmt.apply_bpe import BPE
from subword_nmt.learn_bpe import learn_bpe

from fairseq_cgc.inference.text.pipeline import TextPipeline
from fairseq_cgc.mt.prepare import iwslt as preparation
from fairseq_cgc.mt.prepare.iwslt import iwslt_options, prepare_iwslt
from fairseq_cgc.mt.prepare.iwslt_files import Campaign
from fairseq_cgc.support.errors import UserError

GERMAN = Campaign("de", "en")
OPTIONS = iwslt_options(GERMAN, bpe_size=60)
STEPS = ("orig", "text", "bpe", "bin")


def read(path):
    """Lines of a file; only a newline ends one."""
    return path.read_bytes().decode().split("\n")[:-1]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A finished preparation, read only by the tests: archive, folder, result."""
    folder = tmp_path_factory.mktemp("iwslt")
    archive = small.write_archive(folder / "de-en.tgz", small.campaign_files())
    out = folder / "out"
    return archive, out, prepare_iwslt(GERMAN, archive, out, OPTIONS)


@pytest.mark.parametrize(("side", "lang"), enumerate(small.LANGS))
def test_every_line_of_the_text(prepared, side, lang):
    text = prepared[1] / "text"
    assert read(text / f"train.{lang}") == [row[2 + side] for row in small.TRAIN]
    assert read(text / f"valid.{lang}") == [row[2 + side] for row in small.VALID]
    segments = [segment for name in small.SETS for segment in small.TESTS[name]]
    assert read(text / f"test.{lang}") == [segment[2 + side] for segment in segments]
    for folder in (text, prepared[1] / "bin"):
        assert read(folder / "raw" / f"valid.{lang}") == [row[side] for row in small.VALID]
        assert read(folder / "raw" / f"test.{lang}") == [segment[4 + side] for segment in segments]
    names = {f"{split}.{lang}" for split in ("train", "valid", "test") for lang in small.LANGS}
    assert {path.name for path in text.iterdir()} == names | {"raw", "stamp.json"}


def test_counts_and_files(prepared):
    _, out, (result, files) = prepared
    assert result.pairs == {"train": 46, "valid": 2, "test": 8}
    assert result.dropped == len(small.DROPPED) == 6
    assert tuple(files.tests) == small.SETS
    assert result.dictionary_sizes["de"] != result.dictionary_sizes["en"]
    wanted = {name for name in small.campaign_files() if name[0] != "R" and "tst2019" not in name}
    assert {path.name for path in (out / "orig").iterdir()} == wanted | {"stamp.json"}
    assert {path.name for path in out.iterdir()} == {*STEPS, ".lock", "preprocess.log"}


def test_subwords_are_those_of_subword_nmt(prepared):
    _, out, _ = prepared
    text = [line for lang in small.LANGS for line in read(out / "text" / f"train.{lang}")]
    codes = io.StringIO()
    learn_bpe(iter(text), codes, 60)
    assert (out / "bpe" / "code").read_text(encoding="utf-8") == codes.getvalue()
    bpe = BPE(io.StringIO(codes.getvalue()))
    for path in (out / "text").glob("t*.??"):
        lines = [bpe.process_line(line) for line in read(path)]
        assert read(out / "bpe" / path.name) == lines


def test_fairseq_reads_the_data(prepared):
    _, out, _ = prepared
    for lang in small.LANGS:
        dictionary = Dictionary.load(str(out / "bin" / f"dict.{lang}.txt"))
        data = data_utils.load_indexed_dataset(str(out / "bin" / f"train.de-en.{lang}"), dictionary)
        lines = [dictionary.string(data[index]) for index in range(len(data))]
        assert lines == read(out / "bpe" / f"train.{lang}")


def test_the_data_folder_encodes_raw_text_alike(prepared):
    """Only entities, which the script takes for text, make a difference."""
    _, out, _ = prepared
    pipeline = TextPipeline.load(out / "bin")
    for lang in small.LANGS:
        encoded = list(map(pipeline.encoder(lang), pipeline.reference_lines("test", lang)))
        pairs = zip(encoded, read(out / "bpe" / f"test.{lang}"), strict=True)
        differing = [number for number, (ours, theirs) in enumerate(pairs) if ours != theirs]
        assert differing == small.ENTITIES


def contents(out):
    """Path -> bytes of all files but the stamp of orig and fairseq's logs."""
    files = {path.relative_to(out).as_posix(): path for path in out.rglob("*") if path.is_file()}
    return {
        name: path.read_bytes()
        for name, path in files.items()
        if name != "orig/stamp.json" and not name.endswith(".log")
    }


@pytest.mark.parametrize("route", ["folder", "subfolder", "tar", "flat tar"])
@pytest.mark.slow
def test_all_routes_give_the_same(prepared, tmp_path, route):
    files = small.campaign_files()
    if "tar" in route:
        prefix = "" if route == "flat tar" else "./de-en/"
        origin = small.write_archive(tmp_path / "x.tar", files, prefix)
    else:
        origin = tmp_path / "from"
        small.write_folder(origin / ("de-en" if route == "subfolder" else ""), files)
    workers = dataclasses.replace(OPTIONS, workers=2)
    assert prepare_iwslt(GERMAN, origin, tmp_path / "out", workers)[0].pairs["train"] == 46
    assert contents(tmp_path / "out") == contents(prepared[1])


def test_finished_steps_are_not_repeated(prepared):
    archive, out, result = prepared
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert prepare_iwslt(GERMAN, archive, out, OPTIONS) == result
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


@pytest.mark.parametrize(
    ("campaign", "options", "message"),
    [
        (Campaign("en", "de"), {}, "text was made with source_lang = de, now it is en"),
        (Campaign("de", "en", test_sets=("tst2010",)), {}, r"orig was made with test_sets = \[\]"),
        (GERMAN, {"bpe_size": 61}, "bpe was made with bpe_size = 60, now it is 61"),
        (GERMAN, {"joined_dictionary": True}, "bin was made with joined_dictionary = False"),
    ],
)
def test_changed_settings_are_refused(prepared, campaign, options, message):
    archive, out, _ = prepared
    with pytest.raises(UserError, match=message):
        prepare_iwslt(campaign, archive, out, iwslt_options(campaign, **{"bpe_size": 60} | options))


def test_another_archive_is_refused(prepared, tmp_path):
    files = small.campaign_files() | {"README": b"another\n"}
    other = small.write_archive(tmp_path / "other.tgz", files)
    with pytest.raises(UserError, match=r"orig was made with archive \(SHA-256\) = "):
        prepare_iwslt(GERMAN, other, prepared[1], OPTIONS)


def test_other_direction_sentencepiece_joined_dictionary(prepared, tmp_path):
    campaign = Campaign("en", "de")
    options = iwslt_options(
        campaign, subwords="sentencepiece", bpe_size=150, joined_dictionary=True
    )
    out = tmp_path / "out"
    result, _ = prepare_iwslt(campaign, prepared[0], out, options)
    assert result.dictionary_sizes["de"] == result.dictionary_sizes["en"]
    for split in ("train", "valid", "test"):
        for lang in small.LANGS:
            expected = (prepared[1] / "text" / f"{split}.{lang}").read_bytes()
            assert (out / "text" / f"{split}.{lang}").read_bytes() == expected
            assert (out / "bin" / f"{split}.en-de.{lang}.bin").is_file()


def test_later_year_and_chosen_sets(tmp_path):
    files = {
        name: content.replace(b"<url>", b'<reviewer href="x">')
        for name, content in small.campaign_files("en-de", 16).items()
    }
    origin = small.write_folder(tmp_path / "from", files)
    campaign = Campaign("en", "de", 2016, ("tst2012", "dev2010"))
    result, _ = prepare_iwslt(campaign, origin, tmp_path / "out", iwslt_options(campaign))
    assert result.pairs == {"train": 46, "valid": 2, "test": 4}
    segments = small.TESTS["TED.tst2012"] + small.TESTS["TED.dev2010"]
    assert read(tmp_path / "out" / "text" / "test.de") == [segment[2] for segment in segments]


def test_empty_segments_are_kept_with_one_warning(tmp_path, caplog):
    origin = small.write_folder(tmp_path / "from", small.campaign_files())
    with caplog.at_level(logging.WARNING, "fairseq_cgc"):
        prepare_iwslt(GERMAN, origin, tmp_path / "out", OPTIONS)
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == ["test: 3 segments have no text; they are kept"]


def test_download(monkeypatch, prepared, tmp_path):
    copy = tmp_path / "de-en.tgz"
    shutil.copy(prepared[0], copy)
    monkeypatch.setattr(preparation, "URL", copy.as_uri())
    out = tmp_path / "out"
    result, _ = prepare_iwslt(GERMAN, None, out, OPTIONS)
    assert (out / "download" / "de-en.tgz").read_bytes() == prepared[0].read_bytes()
    assert result.pairs == prepared[2][0].pairs
    copy.unlink()
    shutil.rmtree(out / "download")  # Nothing is fetched for what is there already.
    assert prepare_iwslt(GERMAN, None, out, OPTIONS)[0] == result


def test_what_was_downloaded_instead_of_the_archive_is_to_be_removed(monkeypatch, tmp_path):
    page = tmp_path / "page.html"
    page.write_text("Log in to the network first.")
    monkeypatch.setattr(preparation, "URL", page.as_uri())
    with pytest.raises(UserError, match="page.html: not a whole tar .*; remove this file to down"):
        prepare_iwslt(GERMAN, None, tmp_path / "out", OPTIONS)


def test_only_one_corpus_can_be_downloaded(tmp_path):
    for campaign in (Campaign("fr", "en"), Campaign("de", "en", 2015, ("tst2013",))):
        with pytest.raises(UserError, match="--from is needed: only German-English of 2014"):
            prepare_iwslt(campaign, None, tmp_path / "out", iwslt_options(campaign))
    assert not (tmp_path / "out").exists()


def nothing_left(out):
    return not out.exists() or {path.name for path in out.iterdir()} <= {".lock"}


def changed(name, content):
    return small.campaign_files() | {name: content}


TST = "IWSLT14.TED.tst2010.de-en.en.xml"
BAD = {
    "unequal": (
        changed("train.tags.de-en.en", small.train_file(1).encode() + b"more\n"),
        r"train\.tags\.de-en\.de has 54, but .*train\.tags\.de-en\.en has 55 lines of text",
    ),
    "unequal xml": (
        changed(TST, b'<seg id="1"> a </seg>\n'),
        r"tst2010\.de-en\.de\.xml has 2, but .*tst2010\.de-en\.en\.xml has 1 lines of text",
    ),
    "not utf-8": (
        changed("train.tags.de-en.de", b"<url>\nGr\xfc\xdfe\n"),
        r"train\.tags\.de-en\.de, line 2: not UTF-8 \(byte 0xfc, number 3 of the line\)",
    ),
    "xml not utf-8": (changed(TST, b"<mteval>\n\xff\n"), r"en\.xml, line 2: not UTF-8"),
    "no text": (
        changed("train.tags.de-en.de", b"<url>\n") | {"train.tags.de-en.en": b"<url>\n"},
        "train.tags.de-en.de has no text",
    ),
    "no segments": (
        {name: b"" if "tst2012" in name else content
         for name, content in small.campaign_files().items()},
        r"tst2012\.de-en\.de\.xml has no text",
    ),
    "missing": (
        {name: content for name, content in small.campaign_files().items() if name != TST},
        r"lacks IWSLT14\.TED\.tst2010\.de-en\.en\.xml; it holds IWSLT14",
    ),
    "another corpus": ({"train.de": b"a\n"}, r"has no train\.tags\.de-en\.de .*it holds train\.de"),
}  # fmt: skip


@pytest.mark.parametrize("route", ["archive", "folder"])
@pytest.mark.parametrize("case", sorted(BAD))
def test_bad_text_leaves_nothing(tmp_path, case, route):
    files, message = BAD[case]
    if route == "archive":
        origin = small.write_archive(tmp_path / "x.tgz", files)
    else:
        origin = small.write_folder(tmp_path / "x.tgz", files)
    with pytest.raises(UserError, match=message) as caught:
        prepare_iwslt(GERMAN, origin, tmp_path / "out", OPTIONS)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"--from {origin}")
    assert nothing_left(tmp_path / "out")


def test_hostile_archive_leaves_nothing(tmp_path):
    path = small.write_archive(tmp_path / "x.tar", small.campaign_files())
    with tarfile.open(path, "a") as archive:
        archive.addfile(tarfile.TarInfo("../evil"))
    with pytest.raises(UserError, match=r"'\.\./evil' leads out of the archive's folder"):
        prepare_iwslt(GERMAN, path, tmp_path / "out", OPTIONS)
    assert {path.name for path in tmp_path.iterdir()} == {"x.tar"}


def test_truncated_archive_leaves_nothing(prepared, tmp_path):
    path = tmp_path / "x.tgz"
    path.write_bytes(prepared[0].read_bytes()[:-30])
    with pytest.raises(UserError, match="not a whole tar archive"):
        prepare_iwslt(GERMAN, path, tmp_path / "out", OPTIONS)
    assert nothing_left(tmp_path / "out")


def test_too_little_text(tmp_path):
    files = changed("train.tags.de-en.de", b"Ein Wort.\n" * 22)
    files["train.tags.de-en.en"] = b"A word.\n" * 22
    origin = small.write_folder(tmp_path / "from", files)
    with pytest.raises(UserError, match="22 training pairs are fit for use, but 23 are needed"):
        prepare_iwslt(GERMAN, origin, tmp_path / "out", OPTIONS)
    assert not (tmp_path / "out" / "text").exists()


def test_no_such_origin(tmp_path):
    with pytest.raises(UserError, match=r"--from \S*absent does not exist"):
        prepare_iwslt(GERMAN, tmp_path / "absent", tmp_path / "out", OPTIONS)
    assert not (tmp_path / "out").exists()
