import pytest
from subword_nmt.apply_bpe import BPE

from fairseq_cgc.inference.text.subwords import MODEL_FILES, Subwords, learn, remove_subwords
from fairseq_cgc.support.errors import UserError

GERMAN = ["der kleine hund läuft .", "die kleinen hunde laufen .", "der hund schläft ."] * 3
ENGLISH = ["the little dog runs .", "the little dogs run .", "the dog sleeps ."] * 3
KINDS = sorted(MODEL_FILES)


@pytest.fixture
def texts(tmp_path):
    paths = [tmp_path / "train.de", tmp_path / "train.en"]
    for path, lines in zip(paths, (GERMAN, ENGLISH), strict=True):
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return paths


@pytest.fixture(params=KINDS)
def model(request, texts, tmp_path):
    path = tmp_path / MODEL_FILES[request.param]
    learn(request.param, texts, 60, path)
    return path


def test_round_trip_and_order_of_files(model):
    subwords = Subwords.load(model)
    assert MODEL_FILES[subwords.kind] == model.name
    # Also words and characters that training never showed.
    for line in [*GERMAN[:3], *ENGLISH[:3], "der hundehund läuft schnell €5 .", "a", ""]:
        assert subwords.decode(subwords.encode(line)) == line


def test_half_of_a_character_is_an_unknown_one(model):
    """As Python's json has it: JSON that was cut between the halves of an emoji."""
    assert len(Subwords.load(model).encode("hund \ud83d").split()) > 1


def test_one_model_learns_both_languages(model):
    subwords = Subwords.load(model)
    for word in ("hund", "dog"):
        assert len(subwords.encode(word).split()) == 1


def test_pieces_look_as_fairseq_expects(texts, tmp_path):
    pieces = {}
    for kind in KINDS:
        learn(kind, texts, 60, tmp_path / MODEL_FILES[kind])
        pieces[kind] = Subwords.load(tmp_path / MODEL_FILES[kind]).encode("hund zzhund").split()
    assert pieces["subword_nmt"][0] == "hund"
    assert pieces["subword_nmt"][1].endswith("@@")
    assert pieces["sentencepiece"][0] == "▁hund"


def test_learning_is_repeatable_and_leaves_only_the_model(model, texts, tmp_path):
    before = model.read_bytes()
    learn(Subwords.load(model).kind, texts, 60, model)
    assert model.read_bytes() == before
    assert sorted(tmp_path.iterdir()) == sorted([model, *texts])


def test_more_merges_than_the_text_has(texts, tmp_path):
    for kind in KINDS:
        path = tmp_path / MODEL_FILES[kind]
        learn(kind, texts, 10000, path)
        assert Subwords.load(path).encode("schläft").count(" ") == 0


@pytest.mark.parametrize(
    ("line", "kind", "expected"),
    [
        ("ein gro@@ ßes ha@@ us", "subword_nmt", "ein großes haus"),
        ("ein gro@@", "subword_nmt", "ein gro"),  # output cut off by the length limit
        ("▁ein ▁gro ßes", "sentencepiece", "ein großes"),
        ("ßes ▁haus", "sentencepiece", "ßes haus"),
    ],
)
def test_remove_subwords(line, kind, expected):
    assert remove_subwords(line, kind) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_errors_of_learning(kind, texts, tmp_path):
    model = tmp_path / MODEL_FILES[kind]
    with pytest.raises(UserError, match="--bpe-size is 0, but must be positive"):
        learn(kind, texts, 0, model)
    (tmp_path / "empty").write_text("")
    with pytest.raises(UserError, match="empty"):
        learn(kind, [tmp_path / "empty"], 10, model)
    assert not model.exists()


def test_nothing_to_merge(tmp_path):
    (tmp_path / "text").write_text("ab cd\ne f\n")
    with pytest.raises(UserError, match="too little text"):
        learn("subword_nmt", [tmp_path / "text"], 10, tmp_path / "code")


def test_sentencepiece_needs_a_piece_for_every_character(texts, tmp_path):
    with pytest.raises(UserError, match=r"--bpe-size 5 does not suit .*train\.de"):
        learn("sentencepiece", texts, 5, tmp_path / MODEL_FILES["sentencepiece"])


@pytest.mark.parametrize("name", MODEL_FILES.values())
def test_errors_of_loading(name, tmp_path):
    with pytest.raises(UserError, match="not found"):
        Subwords.load(tmp_path / name)
    (tmp_path / name).write_bytes(b"one two three\nfour\n")
    with pytest.raises(UserError, match="not a "):
        Subwords.load(tmp_path / name)
    with pytest.raises(UserError, match="must be called code or sentencepiece"):
        Subwords.load(tmp_path / "other")


def test_a_word_that_is_too_long_is_split_in_pieces(texts, tmp_path, monkeypatch):
    path = tmp_path / MODEL_FILES["subword_nmt"]
    learn("subword_nmt", texts, 60, path)
    subwords = Subwords.load(path)
    word = "derhund" * 1000
    line = f"der {word} läuft"
    with path.open(encoding="utf-8") as stream:
        assert subwords.encode(line) == BPE(stream).process_line(line)
    size = 1000
    monkeypatch.setattr(type(subwords), "AT_ONCE", size)
    found = subwords.encode(line)
    assert subwords.decode(found) == line
    first = subwords.encode(word[:size])
    assert found.startswith(
        f"{subwords.encode('der')} {first}@@ {subwords.encode(word[size:])[:9]}"
    )
    # A line is long in many words, too; they are not touched.
    many = " ".join(["der hund"] * 500)
    assert subwords.encode(many) == " ".join([subwords.encode("der hund")] * 500)


def test_words_are_not_remembered_for_ever(texts, tmp_path, monkeypatch):
    path = tmp_path / MODEL_FILES["subword_nmt"]
    learn("subword_nmt", texts, 60, path)
    subwords = Subwords.load(path)
    monkeypatch.setattr(type(subwords), "CACHED", 50)
    for number in range(500):
        subwords.encode(f"hund{number} läuft{number}")
        assert len(subwords._bpe.cache) <= 52


def test_a_size_that_sentencepiece_cannot_read(texts, tmp_path):
    with pytest.raises(UserError, match="--bpe-size 1000000000000 does not suit"):
        learn("sentencepiece", texts, 10**12, tmp_path / MODEL_FILES["sentencepiece"])
