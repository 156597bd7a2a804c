import functools
import json

import pytest

from fairseq_cgc.inference.text.lines import map_lines
from fairseq_cgc.inference.text.pipeline import TextPipeline
from fairseq_cgc.inference.text.subwords import MODEL_FILES, learn
from fairseq_cgc.support.errors import UserError

GERMAN = ["Der „kleine“ Hund läuft .", "Die Hunde (zwei) schlafen .", "Der Hund schläft ."]
ENGLISH = ["The little dog runs.", "It's the dogs' bed.", "The dog sleeps."]


def make_folder(folder, subwords="subword_nmt", **changes):
    """A data folder with everything but fairseq's own files."""
    folder.mkdir()
    values = {
        "source_lang": "de",
        "target_lang": "en",
        "tokenizer": "moses",
        "normalize": True,
        "lowercase": True,
        "subwords": subwords,
        "subword_model": MODEL_FILES[subwords],
        "joined_dictionary": True,
        "raw": {"test": {"de": "raw/test.de", "en": "raw/test.en"}},
    } | changes
    pipeline = TextPipeline(**values)
    texts = []
    for lang, lines in (("de", GERMAN), ("en", ENGLISH)):
        texts.append(folder.with_name(f"train.{lang}"))
        tokens = pipeline.tokenize(lines * 3, lang)
        texts[-1].write_text("\n".join(tokens) + "\n", encoding="utf-8")
    learn(subwords, texts, 60, folder / MODEL_FILES[subwords])
    (folder / "raw").mkdir()
    (folder / "raw" / "test.en").write_text("\n".join(ENGLISH) + "\n", encoding="utf-8")
    pipeline.save(folder)
    return folder


def encode(pipeline, lines, lang, workers=1):
    return map_lines(functools.partial(pipeline.encoder, lang), lines, workers)


@pytest.mark.parametrize("subwords", sorted(MODEL_FILES))
@pytest.mark.parametrize("workers", [1, 2])
def test_encode_and_decode(tmp_path, subwords, workers):
    pipeline = TextPipeline.load(make_folder(tmp_path / "bin", subwords, lowercase=False))
    encoded = list(encode(pipeline, ENGLISH, "en", workers))
    assert [pipeline.remove_subwords(line) for line in encoded] == [
        "The little dog runs .",
        "It &apos;s the dogs &apos; bed .",
        "The dog sleeps .",
    ]
    assert list(map(pipeline.decoder(), encoded)) == ENGLISH


def test_order_of_the_iwslt_recipe(tmp_path):
    """Straight apostrophes, tokens as of Moses today, lower case at the end."""
    steps = {"normalize": False, "lowercase_last": True, "straight_apostrophes": True}
    folder = make_folder(tmp_path / "bin", strict_tokenizer=True, **steps)
    pipeline = TextPipeline.load(folder)
    # In lower case "no" would be no abbreviation, and the apostrophe stays one in English.
    lines = ["It’s No. 5 in the U.S.", " \u00a0", "„İ“"]
    assert list(pipeline.tokenize(lines, "en")) == [
        "it &apos;s no. 5 in the u.s .",
        "",
        "„ i\u0307 “",
    ]


def test_descriptions_of_before_these_steps_are_still_read(tmp_path):
    path = make_folder(tmp_path / "bin") / "preparation.json"
    values = json.loads(path.read_text())
    for name in ("lowercase_last", "straight_apostrophes", "strict_tokenizer"):
        assert values.pop(name) is False
    path.write_text(json.dumps(values))
    pipeline = TextPipeline.load(tmp_path / "bin")
    assert list(pipeline.tokenize(["It’s No. 5 in the U.S."], "en")) == [
        "it &apos;s no . 5 in the u.s."
    ]


def test_language_decides_the_rules(tmp_path):
    pipeline = TextPipeline.load(make_folder(tmp_path / "bin"))
    decoded = [pipeline.remove_subwords(line) for line in encode(pipeline, ['A "b."'], "de")]
    assert decoded == ["a &quot; b &quot; ."]
    decoded = [pipeline.remove_subwords(line) for line in encode(pipeline, ['A "b."'], "en")]
    assert decoded == ["a &quot; b . &quot;"]


def test_without_tokenizer_text_passes_through(tmp_path):
    plain = {"tokenizer": "none", "normalize": False, "lowercase": False}
    pipeline = TextPipeline.load(make_folder(tmp_path / "bin", **plain))
    lines = ["Der „kleine“ Hund .", "isn't & <b>"]
    assert list(map(pipeline.decoder(), encode(pipeline, lines, "en"))) == lines


def test_encode_is_lazy(tmp_path):
    pipeline = TextPipeline.load(make_folder(tmp_path / "bin"))
    lines = iter(ENGLISH)
    next(encode(pipeline, lines, "en"))
    assert list(lines) == ENGLISH[1:]


def test_the_folder_can_be_moved(tmp_path):
    folder = make_folder(tmp_path / "bin")
    before = TextPipeline.load(folder)
    expected = list(encode(before, GERMAN, "de"))
    after = TextPipeline.load(str(folder.rename(tmp_path / "moved")))
    assert list(encode(after, GERMAN, "de")) == expected
    assert after.file("code") == tmp_path / "moved" / "code"
    assert str(tmp_path) not in (tmp_path / "moved" / "preparation.json").read_text()


def test_saved_and_loaded_are_equal(tmp_path):
    folder = make_folder(tmp_path / "bin", joined_dictionary=False)
    pipeline = TextPipeline.load(folder)
    assert (pipeline.target_lang, pipeline.joined_dictionary) == ("en", False)
    pipeline.save(folder)
    assert TextPipeline.load(folder) == pipeline


def test_reference_lines(tmp_path):
    pipeline = TextPipeline.load(make_folder(tmp_path / "bin"))
    assert pipeline.reference_lines("test", "en") == ENGLISH
    assert pipeline.reference_lines("test1", "en") is None
    assert pipeline.reference_lines("test", "fr") is None
    with pytest.raises(UserError, match=r"test\.de: cannot be read"):
        pipeline.reference_lines("test", "de")


def test_a_folder_without_preparation_says_what_makes_one(tmp_path):
    with pytest.raises(UserError, match=r"no preparation\.json; .*fairseq-cgc prepare OUT"):
        TextPipeline.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[:-20], "damaged"),
        (lambda text: "[]", "damaged"),
        (lambda text: "{}", "damaged"),
        (lambda text: json.dumps(json.loads(text) | {"unheard": 1}), "damaged"),
        (lambda text: json.dumps(json.loads(text) | {"raw": 1}), "raw is 1, but must be dict"),
        (lambda text: json.dumps(json.loads(text) | {"raw": {"test": 1}}), "raw has 1, but must"),
        (lambda text: json.dumps(json.loads(text) | {"source_lang": 5}), "source_lang is 5, but"),
        (lambda text: json.dumps(json.loads(text) | {"lowercase": "no"}), "must be bool"),
        (lambda text: json.dumps(json.loads(text) | {"subword_model": None}), "must be str"),
        (lambda text: "[" * 100_000, "damaged"),
        (lambda text: text.replace("moses", "mosses"), "'mosses', but must be moses or none"),
    ],
)
def test_damaged_preparation(tmp_path, change, message):
    path = make_folder(tmp_path / "bin") / "preparation.json"
    path.write_text(change(path.read_text()))
    with pytest.raises(UserError, match=message):
        TextPipeline.load(tmp_path / "bin")


def test_missing_subword_model(tmp_path):
    folder = make_folder(tmp_path / "bin")
    (folder / "code").unlink()
    with pytest.raises(UserError, match="code: subword model not found"):
        list(encode(TextPipeline.load(folder), GERMAN, "de"))
    with pytest.raises(UserError, match="code: subword model not found"):
        list(encode(TextPipeline.load(folder), GERMAN, "de", workers=2))
