"""Pairs in sequence, and the files of a corpus."""

import hashlib
from pathlib import Path

import pytest
from our_commands import ENVIRONMENT, run_command

from fairseq_cgc.demo import MAX_PAIRS, corpus, generate_pairs, lexicon, sentences
from fairseq_cgc.demo import write_corpus as write
from fairseq_cgc.demo.sentences import SentenceSampler, count_tokens
from fairseq_cgc.support.errors import UserError

FILES = {f"{split}.{lang}" for split in ("train", "valid", "test") for lang in ("de", "en")}


@pytest.fixture(scope="module")
def sample():
    """4000 pairs, read only."""
    return list(generate_pairs(4000, seed=3))


@pytest.mark.parametrize(
    ("seed", "digest"),
    [
        (1, "b38c15f655d035f9191930a637036fda723978d70a201a2bbe0d1d5a633c6db1"),
        (7, "389355ab2292345586d74cb6fd0966ec7ceb148f4f0ad1c7b3953fb3e39f6389"),
    ],
)
def test_same_seed_same_bytes(seed, digest):
    text = "".join(f"{german}\t{english}\n" for german, english in generate_pairs(300, seed=seed))
    # If this changes with the grammar, _GRAMMAR_VERSION must change as well.
    assert (corpus._GRAMMAR_VERSION, hashlib.sha256(text.encode()).hexdigest()) == (1, digest)


def test_more_pairs_are_added_at_the_end(sample):
    assert list(generate_pairs(50, seed=3)) == sample[:50]


def test_other_seed_other_pairs(sample):
    other = set(generate_pairs(200, seed=4))
    assert len(other & set(sample[:200])) < 10


def test_distinct_in_both_languages(sample, monkeypatch):
    for side in (0, 1):  # in lower case, too
        assert len({pair[side].casefold() for pair in sample}) == len(sample)
    drawn = iter([("Ja.", "Yes."), ("Doch.", "Yes."), ("Ja.", "Sure."), ("Nein.", "No.")])

    class FourSentences:
        def __init__(self, seed):
            pass

        def sample(self):
            return next(drawn)

    monkeypatch.setattr(corpus, "SentenceSampler", FourSentences)
    assert list(generate_pairs(2, seed=1)) == [("Ja.", "Yes."), ("Nein.", "No.")]


@pytest.mark.parametrize("number", [0, -1, MAX_PAIRS + 1])
def test_number_out_of_range(number):
    with pytest.raises(
        UserError, match=f"number of pairs is {number}, but must be 1 to {MAX_PAIRS}"
    ):
        generate_pairs(number, seed=1)


def test_english_is_a_function_of_german(monkeypatch):
    # So few words that every sentence is drawn many times, by different choices; among them
    # women, whose nominative and accusative are the same.
    for table in ("NOUNS", "ADJECTIVES"):
        words = {kind: entries[1:2] for kind, entries in getattr(lexicon, table).items()}
        monkeypatch.setattr(lexicon, table, words)
    few = {frame: (table[0], table[-1]) for frame, table in lexicon.VERBS.items()}
    transitive = {verb.infinitive: verb for verb in lexicon.VERBS["transitive"]}
    few["transitive"] = tuple(transitive[verb] for verb in ("besuchen", "lesen", "verkaufen"))
    for frame in (*lexicon.FRAMES, "weather"):
        monkeypatch.setitem(lexicon.VERBS, frame, few[frame])
    sampler, english_of, repeated = SentenceSampler(5), {}, 0
    for _ in range(20000):
        german, english = sampler.sample()
        repeated += german in english_of
        assert english_of.setdefault(german, english) == english, german
    assert repeated > 500


def test_length_limits(monkeypatch):
    monkeypatch.setattr(sentences, "MIN_TOKENS", 7)
    monkeypatch.setattr(sentences, "MAX_TOKENS", 9)
    sampler = SentenceSampler(1)
    assert {count_tokens(sampler.sample()[0]) for _ in range(300)} == {7, 8, 9}


def read(path):
    return path.read_bytes().decode("utf-8").split("\n")[:-1]


def test_files_and_sizes_of_a_corpus(tmp_path):
    out = tmp_path / "new" / "corpus"
    write(out, train=60, valid=20, test=30, seed=2)
    assert {path.name for path in out.iterdir()} == FILES | {"stamp.json"}
    pairs = {
        split: list(zip(read(out / f"{split}.de"), read(out / f"{split}.en"), strict=True))
        for split in ("train", "valid", "test")
    }
    assert {split: len(lines) for split, lines in pairs.items()} == {
        "train": 60, "valid": 20, "test": 30
    }  # fmt: skip
    together = pairs["test"] + pairs["valid"] + pairs["train"]
    assert together == list(generate_pairs(110, seed=2))
    for side in (0, 1):
        train = {pair[side] for pair in pairs["train"]}
        assert train.isdisjoint(pair[side] for pair in pairs["valid"] + pairs["test"])


def test_finished_corpus_is_not_made_again(tmp_path):
    sizes = {"train": 5, "valid": 2, "test": 2}
    (tmp_path / "corpus").mkdir()  # an empty folder is no obstacle
    write(tmp_path / "corpus", **sizes, seed=1)
    before = (tmp_path / "corpus" / "train.de").stat()
    write(tmp_path / "corpus", **sizes, seed=1)
    assert (tmp_path / "corpus" / "train.de").stat() == before
    with pytest.raises(UserError, match="was made with seed = 1, now it is 2"):
        write(tmp_path / "corpus", **sizes, seed=2)
    with pytest.raises(UserError, match="was made with train = 5, now it is 6"):
        write(tmp_path / "corpus", **sizes | {"train": 6}, seed=1)
    assert (tmp_path / "corpus" / "train.de").stat() == before


def test_interrupted_corpus_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(path, lines):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(corpus, "write_lines", interrupted)
        write(tmp_path / "corpus", train=5, valid=2, test=2, seed=1)
    assert list(tmp_path.iterdir()) == []
    write(tmp_path / "corpus", train=5, valid=2, test=2, seed=1)
    assert len(read(tmp_path / "corpus" / "train.de")) == 5


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"train": 0}, "--train is 0, but must be positive"),
        ({"valid": -5}, "--valid is -5, but must be positive"),
        ({"test": MAX_PAIRS}, f"are {MAX_PAIRS + 7} pairs together, .* at most {MAX_PAIRS}"),
    ],
)
def test_wrong_sizes_are_refused(tmp_path, sizes, message):
    with pytest.raises(UserError, match=message):
        write(tmp_path / "corpus", **{"train": 5, "valid": 2, "test": 2} | sizes, seed=1)
    assert list(tmp_path.iterdir()) == []


def test_folder_that_is_a_file_or_somebody_elses(tmp_path):
    file = tmp_path / "file"
    file.write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match="file is a file, but must be a folder"):
        write(file, train=5, valid=2, test=2, seed=1)
    with pytest.raises(UserError, match="exists, but no preparation made it"):
        write(tmp_path, train=5, valid=2, test=2, seed=1)
    assert file.read_text(encoding="utf-8") == "mine"


def test_the_empty_working_folder_cannot_be_replaced(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"^\. cannot be replaced .*; give a folder that does not"):
        write(Path(), train=5, valid=2, test=2, seed=1)


def run(*arguments, hash_seed="0"):
    environment = {**ENVIRONMENT, "PYTHONHASHSEED": hash_seed}
    return run_command("demo-corpus", *arguments, env=environment, text=True)


def test_command_writes_the_same_corpus(tmp_path):
    sizes = ("--train", 30, "--valid", 4, "--test", 5)
    result = run(tmp_path / "a", *sizes, hash_seed="1")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1].endswith("train 30, valid 4, test 5 pairs")
    write(tmp_path / "b", train=30, valid=4, test=5, seed=1)
    for name in FILES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_command_reports_errors_in_one_line(tmp_path):
    result = run(tmp_path / "a", "--test", 0)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == "error: --test is 0, but must be positive"
    assert "Traceback" not in result.stderr
