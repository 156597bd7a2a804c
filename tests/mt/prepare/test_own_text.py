"""``fairseq-cgc prepare``: anybody's parallel text."""

import contextlib
import dataclasses
import gzip
import io
import json
import shlex

import pytest
from our_commands import call

from fairseq_cgc.commands import prepare as command
from fairseq_cgc.inference.text.pipeline import TextPipeline
from fairseq_cgc.mt.prepare import preparation
from fairseq_cgc.mt.prepare.own_text import (
    OwnText,
    check_own_language,
    options_like,
    prepare_own_text,
)
from fairseq_cgc.mt.prepare.preparation import Prepared, PrepareOptions
from fairseq_cgc.support.errors import UserError

LANGS = ("deu", "eng")
OPTIONS = PrepareOptions("deu", "eng", lowercase=False, bpe_size=30)
NUMBERS = ["eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht"]
PAIRS = [(f"Der Hund {n} läuft.", f"The dog {n} runs.") for n in NUMBERS]
PAIRS += [("", "Nothing."), ("Nichts.\t", " \t"), ("Ein\tHund.", "A dog.")]


def write(folder, name, pairs, *, end="\n", langs=LANGS, packed=()):
    """Files of a prefix; gives the prefix."""
    folder.mkdir(exist_ok=True)
    for side, lang in enumerate(langs):
        content = "".join(pair[side] + end for pair in pairs).encode()
        path = folder / f"{name}.{lang}"
        if lang in packed:
            path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(content))
        else:
            path.write_bytes(content)
    return str(folder / name)


def lines(path):
    return path.read_text(encoding="utf-8").splitlines()


def run(*words):
    call("prepare", *words)


@pytest.fixture
def corpus(tmp_path):
    return write(tmp_path / "text", "corpus", PAIRS)


@pytest.fixture
def without_fairseq(monkeypatch):
    """Leaves out fairseq-preprocess, which takes seconds; the other steps are made."""

    def binarize(text_dir, data_dir, splits, source_lang, target_lang, **options):
        for lang in (source_lang, target_lang):
            (data_dir / f"dict.{lang}.txt").write_text("a 1\n")
        calls.append(options)

    calls = []
    monkeypatch.setattr(preparation, "binarize", binarize)
    return calls


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Data that the whole command made, and what it printed."""
    folder = tmp_path_factory.mktemp("own")
    text = write(folder / "text", "corpus", PAIRS * 2)
    test = write(folder / "text", "news", PAIRS[:3], end="\r\n", packed=("eng",))
    out = folder / "out"
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        run(
            *(out, "--source-lang", "deu", "--target-lang", "eng", "--train", text, "--lowercase"),
            *("--valid", 2, "--test", 1, test, "--bpe-size", 30, "--workers", 1),
        )
    return out, printed.getvalue(), test


def test_the_whole_command(prepared):
    out, printed, _ = prepared
    # Each pair is there twice: the copies of 3 held-out pairs leave training, and 4 have no text.
    counts = "pairs: train 12, valid 2, test 1, test1 3 | dictionary (joined): deu "
    assert printed.startswith(f"# {out / 'bin'} | {counts}")
    assert (
        "22 pairs read, 3 held out; dropped: 4 with an empty side, 3 copies of pairs held out, "
        "0 by their length"
    ) in printed
    for split in ("train", "valid", "test", "test1"):
        for lang in LANGS:
            assert (out / "bin" / f"{split}.deu-eng.{lang}.idx").is_file()
    pipeline = TextPipeline.load(out / "bin")
    assert pipeline.reference_lines("test1", "eng") == [pair[1] for pair in PAIRS[:3]]
    assert lines(out / "text" / "test1.eng")[0] == "the dog eins runs ."
    held_out = {pipeline.reference_lines(s, "deu")[0] for s in ("valid", "test")}
    assert held_out <= {pair[0] for pair in PAIRS if pair[0]}
    assert not held_out & set(lines(out / "orig" / "train.deu"))


def test_printed_commands_are_for_the_shell(prepared):
    out, printed, _ = prepared
    words = shlex.split(printed.replace("\\\n", " "), comments=True)
    train = words[: words.index("fairseq-cgc")]
    assert train[:2] == ["fairseq-train", str(out / "bin")]
    option = dict(zip(train, train[1:], strict=False))
    assert option["--source-lang"] == "deu"
    assert option["--arch"] == "lightconv_cgc_tiny"
    assert option["--adam-betas"] == "(0.9, 0.98)"
    assert "--share-all-embeddings" in train
    assert option["--save-dir"] == str(out / "checkpoints")
    assert words.count("evaluate") == 2
    assert words[-4:-2] == ["--input", str(out / "bin" / "raw" / "test.deu")]
    assert max(map(len, printed.splitlines())) < 400


def test_new_test_set_like_prepared_data(prepared, tmp_path, capsys):
    out, _, test = prepared
    data = out / "bin"
    run(tmp_path / "new", "--like", data, "--test", test, "--workers", 1)
    new = tmp_path / "new" / "bin"
    for name in ("dict.deu.txt", "dict.eng.txt", "code"):
        assert (new / name).read_bytes() == (data / name).read_bytes()
    for lang in LANGS:
        for kind in ("bin", "idx"):
            name = f"deu-eng.{lang}.{kind}"
            assert (new / f"test.{name}").read_bytes() == (data / f"test1.{name}").read_bytes()
    printed = capsys.readouterr().out
    assert "fairseq-train" not in printed
    assert f"evaluate {out / 'checkpoints'} --data {new} --split test" in printed.replace(
        " \\\n    ", " "
    )


def test_fine_tuning_keeps_the_size_of_the_model(prepared, tmp_path, capsys, without_fairseq):
    out, _, test = prepared
    stamp = out / "bin" / "stamp.json"
    before = stamp.read_text()
    counts = json.loads(before)
    counts["counts"]["pairs"]["train"] = 200_000
    stamp.write_text(json.dumps(counts))
    try:
        text = write(tmp_path / "text", "domain", PAIRS)
        run(tmp_path / "new", "--like", out / "bin", "--train", text, "--valid", test)
    finally:
        stamp.write_text(before)
    printed = capsys.readouterr().out.replace(" \\\n    ", " ")
    assert "--arch lightconv_cgc_iwslt_de_en" in printed
    assert "--lr 5e-05 " in printed
    assert f"--finetune-from-model {out / 'checkpoints' / 'checkpoint_best.pt'}" in printed
    assert f"--save-dir {tmp_path / 'new' / 'checkpoints'}" in printed
    assert without_fairseq[0]["dictionaries"] == out / "bin"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--bpe-size", "9"], r"--bpe-size is 9, but --like .* has its subwords already"),
        (["--no-lowercase"], r"--no-lowercase contradicts --like .*, made with --lowercase"),
        (["--separate-dictionaries"], r"--separate-dictionaries contradicts .*--joined-dictionary"),
        (["--bpe", "sentencepiece"], r"--bpe sentencepiece contradicts .*--bpe subword-nmt"),
        (["--tokenizer", "none"], r"--tokenizer none contradicts .*--tokenizer moses"),
        (["--source-lang", "fra"], r"--source-lang is fra, but --like .* holds deu and eng"),
        (["--train", "x"], r"--valid is missing"),
        (["--valid", "3"], r"--valid 3 holds out pairs of --train"),
    ],
)
def test_what_contradicts_like(prepared, tmp_path, words, message):
    out, _, test = prepared
    with pytest.raises(UserError, match=message):
        run(tmp_path / "new", "--like", out / "bin", "--test", test, *words)
    assert not (tmp_path / "new").exists()


def test_like_takes_either_direction_and_all_that_the_recipe_has(tmp_path):
    made = PrepareOptions("deu", "eng", lowercase_last=True, strict_tokenizer=True, max_tokens=9)
    made.pipeline().save(tmp_path)
    for langs in (("eng", "deu"), ("eng", None), (None, "deu")):
        options = options_like(tmp_path, *langs, {"lowercase": True, "normalize": None})
        assert (options.source_lang, options.target_lang) == ("eng", "deu")
        assert options.lowercase_last
        assert options.strict_tokenizer
    assert options_like(tmp_path, None, None, {}, max_ratio=2.0).max_ratio == 2.0
    with pytest.raises(UserError, match=r"has no preparation\.json"):
        options_like(tmp_path / "nothing", None, None, {})


def test_steps_do_not_depend_on_how_the_text_is_stored(tmp_path, without_fairseq):
    for name, how in (
        ("plain", {}),
        ("windows", {"end": "\r\n"}),
        ("packed", {"packed": LANGS}),
        ("mixed", {"packed": ("deu",), "end": "\r\n"}),
    ):
        text = write(tmp_path / name, "corpus", PAIRS, **how)
        prepare_own_text(OwnText([text], 2), tmp_path / f"out-{name}", OPTIONS)
        for file in (tmp_path / "out-plain").glob("*/*.???"):
            same = tmp_path / f"out-{name}" / file.relative_to(tmp_path / "out-plain")
            assert same.read_bytes() == file.read_bytes()


def test_texts_are_joined_in_order_and_finished_steps_kept(tmp_path, without_fairseq):
    first = write(tmp_path / "text", "first", PAIRS[:4])
    second = write(tmp_path / "text", "second", PAIRS[4:])
    third = write(tmp_path / "text", "third", [("Katze.", "Cat.")])
    text = OwnText([second, first], third, [third.replace("third", "./first"), 1])
    with pytest.raises(UserError, match=r"--test: .*first\.deu is given as --train too"):
        prepare_own_text(text, tmp_path / "out", OPTIONS)
    text = OwnText([second, first], third, [1])
    result, counts = prepare_own_text(text, tmp_path / "out", OPTIONS)
    assert counts == {"read": 11, "empty": 2, "copies": 0, "held_out": 1}
    assert result.pairs == {"train": 8, "valid": 1, "test": 1}
    full = [pair[0] for pair in PAIRS[4:] + PAIRS[:4] if pair[0].strip() and pair[1].strip()]
    assert set(lines(tmp_path / "out" / "orig" / "test.deu")) < set(full)
    kept = lines(tmp_path / "out" / "orig" / "train.deu")
    assert kept == [line for line in full if line in kept]
    made = (tmp_path / "out" / "bin").stat().st_mtime_ns
    assert prepare_own_text(text, tmp_path / "out", OPTIONS) == (result, counts)
    assert (tmp_path / "out" / "bin").stat().st_mtime_ns == made
    for changed, message in (
        (OwnText([second, first], third, [2]), "pairs held out for test = 1, now it is 2"),
        (OwnText([second, first], third, [1], seed=2), "seed = 1, now it is 2"),
        (OwnText([first, second], third, [1]), r"--train 1, deu \(SHA-256\) = "),
        (OwnText([second, first], third), "pairs held out for test = 1, now it is None"),
    ):
        with pytest.raises(UserError, match=f"orig was made with {message}"):
            prepare_own_text(changed, tmp_path / "out", OPTIONS)


def test_limits_of_length_hold_for_what_is_held_out_too(tmp_path, without_fairseq):
    odd = [(f"{n} a a a a a a a", n) for n in NUMBERS]
    text = write(tmp_path / "text", "corpus", [*PAIRS, *odd])
    options = PrepareOptions("deu", "eng", bpe_size=30, max_ratio=2)
    result, counts = prepare_own_text(OwnText([text], 8), tmp_path / "out", options)
    assert counts["held_out"] == 8
    assert result.dropped == 8
    assert not set(lines(tmp_path / "out" / "orig" / "valid.eng")) & set(NUMBERS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ({"train": ["gone"]}, r"--train gone: there is neither gone\.deu nor gone\.deu\.gz"),
        ({"valid": "gone"}, r"--valid gone: there is neither"),
        ({"tests": ["gone"]}, r"--test gone: there is neither"),
        ({"valid": "corpus"}, r"--valid: .*corpus\.deu is given as --train too"),
        ({"train": ["corpus", "corpus"]}, r"--train: .*corpus\.deu is given twice"),
        ({"valid": 0}, r"--valid is 0, but must be a prefix of files or a number of pairs, at lea"),
        ({"tests": [-1]}, r"--test is -1, but must be"),
        ({"valid": None}, r"--valid is missing"),
        ({"train": []}, r"--valid 1 holds out pairs of --train"),
        ({"train": [], "valid": "dev"}, r"--train is missing; only with --like"),
        ({"valid": 7, "tests": [2]}, r"hold out 9 pairs, but must hold out at most 8: of 9"),
        ({"valid": "short"}, r"short\.deu has 1 lines, but .*short\.eng has 0"),
        ({"train": ["corpus", "short"]}, r"short\.deu has 1 lines, but .*short\.eng has 0"),
        ({"valid": "empty"}, r"empty\.eng, line 2: empty line; evaluation text must have none"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(corpus, tmp_path, monkeypatch, text, message):
    monkeypatch.chdir(tmp_path / "text")
    write(tmp_path / "text", "dev", PAIRS[:1])
    write(tmp_path / "text", "empty", [("Eins.", "One."), ("Zwei.", " ")])
    write(tmp_path / "text", "short", PAIRS[:1])
    (tmp_path / "text" / "short.eng").write_text("")
    with pytest.raises(UserError, match=message) as caught:
        prepare_own_text(
            OwnText(**{"train": ["corpus"], "valid": 1, **text}), tmp_path / "out", OPTIONS
        )
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("lang", ["deu", "de", "zho_Hans", "pt-BR"])
def test_codes_of_languages(lang):
    check_own_language(lang, "--source-lang")


def test_unknown_and_impossible_codes(caplog):
    caplog.set_level("INFO")
    check_own_language("klingon", "--source-lang")
    assert "--source-lang is klingon, no known language code" in caplog.text
    check_own_language("xx", "--target-lang")
    assert "no list of abbreviations for xx" in caplog.text
    caplog.clear()
    check_own_language("klingon", "--source-lang", tokenizes=False)
    assert not caplog.text
    for lang in ("", "a/b", "d e", "de.tok", "-de"):
        with pytest.raises(UserError, match="--source-lang is '.*', but must be made of letters"):
            check_own_language(lang, "--source-lang")


def test_codes_of_any_kind_name_the_files(tmp_path, without_fairseq):
    langs = ("klingon", "zho_Hans")
    text = write(tmp_path / "text", "corpus", PAIRS, langs=langs)
    options = PrepareOptions(*langs, bpe_size=30)
    prepare_own_text(OwnText([text], 1), tmp_path / "out", options)
    assert (tmp_path / "out" / "bpe" / "train.zho_Hans").is_file()


@pytest.mark.parametrize(
    ("pairs", "architecture"),
    [(1, "tiny"), (100_000, "tiny"), (100_001, "iwslt_de_en"), (5_000_000, "wmt_en_de")],
)
def test_recipe_by_the_amount_of_text(pairs, architecture):
    options = command.training_options(pairs, joined=False)
    assert options[:2] == ["--arch", f"lightconv_cgc_{architecture}"]
    assert "--share-all-embeddings" not in options
    assert not {"--source-lang", "--task", "--patience=None"} & set(options)


def test_commands_for_data_like_those_that_nothing_is_known_of(tmp_path):
    options = dataclasses.replace(OPTIONS, like=tmp_path / "other" / "bin")
    prepared = Prepared(tmp_path / "bin", {"train": 200_000, "valid": 5}, 0, {})
    printed = "\n".join(command.next_commands(tmp_path, prepared, options))
    assert "--arch lightconv_cgc_iwslt_de_en" in printed  # as many pairs as there are here
