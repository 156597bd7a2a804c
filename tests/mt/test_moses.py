import pytest
from conftest import SHARED

from fairseq_cgc.mt.corpora import read_lines
from fairseq_cgc.mt.moses import MosesDecoder, MosesEncoder

DATA = SHARED / "data"


def encoder(lang, *, lowercase=False, normalize=True, tokenize=True):
    return MosesEncoder(lang, lowercase=lowercase, normalize=normalize, tokenize=tokenize)


@pytest.mark.skipif(not (DATA / "multi30k").is_dir(), reason="needs shared/data/multi30k")
@pytest.mark.parametrize("lang", ["de", "en"])
def test_multi30k_validation_set_is_reproduced_in_full(lang):
    encode = encoder(lang, lowercase=True)
    lines = [encode(line) for line in read_lines(DATA / "multi30k" / f"val.{lang}.gz")]
    assert len(lines) == 1014
    assert lines == list(read_lines(DATA / "multi30k" / f"val.lc.norm.tok.{lang}"))


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "multi30k-bpe-en-de").is_dir(), reason="needs shared/data")
@pytest.mark.parametrize("lang", ["de", "en"])
def test_multi30k_training_set_is_reproduced_in_full(lang):
    """Against a published preparation made with Moses' own scripts."""
    published = read_lines(DATA / "multi30k-bpe-en-de" / f"train.{lang}")
    expected = [(line + " ").replace("@@ ", "").rstrip() for line in published]
    encode = encoder(lang, lowercase=True)
    lines = [encode(line) for line in read_lines(DATA / "multi30k" / f"train.{lang}.gz")]
    assert len(lines) == 29000
    assert lines == expected


@pytest.mark.parametrize(
    ("lang", "raw", "tokens"),
    [
        # Full stop before a closing quote: as it is in English, outside elsewhere, also at
        # the end of the line.
        ("en", 'He said "go."', "He said &quot; go . &quot;"),
        ("en", 'He said "go", twice.', "He said &quot; go , &quot; twice ."),
        ("de", 'Er sagt "geh."', "Er sagt &quot; geh &quot; ."),
        ("it", 'Dice "va."', "Dice &quot; va &quot; ."),
        ("cs", 'Řekl "jdi."', "Řekl &quot; jdi . &quot;"),
        (
            "de",
            "Das T-Shirt – „gut“ & <neu>",
            "Das T-Shirt - &quot; gut &quot; &amp; &lt; neu &gt;",
        ),
        ("de", "die Eltern’ Haus", "die Eltern &quot; Haus"),
        ("en", "It's 5,300 people.", "It &apos;s 5,300 people ."),
        ("de", "z. B. am 3. Mai ...", "z. B. am 3. Mai ..."),
    ],
)
def test_rules(lang, raw, tokens):
    assert encoder(lang)(raw) == tokens


def test_switches():
    raw = "Ein  „GROSSES“\u2028Haus."
    plain = encoder("de", normalize=False, tokenize=False)
    assert plain(raw) == "Ein „GROSSES“ Haus."
    assert encoder("de", lowercase=True, normalize=False, tokenize=False)(raw).startswith("ein „gr")
    assert encoder("de", tokenize=False)(raw) == 'Ein "GROSSES" Haus.'
    assert encoder("de", normalize=False)(raw) == "Ein „ GROSSES “ Haus ."


def test_no_white_space_but_spaces_is_left():
    for lang, tokenize in (("de", True), ("de", False)):
        line = encoder(lang, normalize=False, tokenize=tokenize)("a\u2028b\x0bc\u00a0d\u3000e\rf")
        assert line.split(" ") == line.split()


@pytest.mark.parametrize(
    ("lang", "text"),
    [
        ("en", "It's a man's \"big\" T-shirt & hat, isn't it?"),
        ("de", 'Der "alte" Mann (72) geht, läuft und schläft.'),
        ("fr", "L'homme d'à côté n'est pas là."),
        ("en", ""),
    ],
)
def test_detokenisation_undoes_tokenisation(lang, text):
    assert MosesDecoder(lang)(encoder(lang, normalize=False)(text)) == text
