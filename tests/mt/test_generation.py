from __future__ import annotations

from pathlib import Path

import pytest
from tinyrun import TinyRun, tiny_run

from fairseq_cgc.core.errors import UserError
from fairseq_cgc.inference.search_options import SearchOptions
from fairseq_cgc.mt.generation import (
    parse_generation,
    read_generation,
    run_generation,
    split_files,
)
from fairseq_cgc.mt.scoring import tokenized_bleu

BEAM_1 = SearchOptions(beam=1, cpu=True)

OUTPUT = """\
2026-01-01 | INFO | fairseq.tasks.translation | [de] dictionary: 8848 types
S-1\tzwei
T-1\ttwo
H-1\t-0.5\ttwo @-@
D-1\t-0.5\ttwo-
P-1\t-0.1 -0.4
S-0\teins
T-0\tone <<unk>>
H-0\t-1.25\tone
D-0\t-1.25\tone
P-0\t-0.1
I | fairseq_cli.generate | Translated 1,002 sentences (3,000 tokens) in 2.0s (501.00 sentences/s)
Generate test with beam=6: BLEU4 = 34.51, 68.9/42.4/28.0/18.8 \
(BP=1.000, ratio=1.000, syslen=10, reflen=10)
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> TinyRun:
    return tiny_run(tmp_path_factory)


def test_the_order_of_the_source_is_restored() -> None:
    generation = parse_generation(OUTPUT.splitlines(keepends=True))
    assert generation.sources == ["eins", "zwei"]
    assert generation.references == ["one <<unk>>", "two"]
    assert generation.hypotheses == ["one", "two @-@"]
    assert generation.decoded == ["one", "two-"]
    assert generation.scores == [-1.25, -0.5]
    assert generation.sentences_per_second == 501.0
    assert generation.bleu is not None and generation.bleu.score == 34.51


def test_the_best_of_several_translations_is_kept() -> None:
    lines = ["S-0\tx"]
    for score, text in ((-2.0, "worst"), (-0.5, "best"), (-1.0, "second")):
        lines += [f"H-0\t{score}\t{text}", f"D-0\t{score}\t{text}!"]
    generation = parse_generation(lines)
    assert (generation.hypotheses, generation.decoded) == (["best"], ["best!"])
    assert generation.scores == [-0.5]
    assert generation.references is None and generation.bleu is None


def test_only_a_newline_ends_a_line(tmp_path: Path) -> None:
    text = "a\x85b\u2028c\rd\te"
    log = tmp_path / "log"
    log.write_bytes(f"S-0\t\nH-0\t-1.0\t{text}\nD-0\t-inf\t{text}\n".encode())
    generation = read_generation(log)
    assert generation.sources == [""]
    assert generation.hypotheses == generation.decoded == [text]


def test_missing_sentences_are_noticed() -> None:
    lines = [f"H-{number}\t-1.0\tx" for number in (0, 3)]
    with pytest.raises(UserError, match=r"log lacks 2 of 4 sentences: 1, 2$"):
        parse_generation(lines, name="log")
    with pytest.raises(UserError, match=r"lacks 18 of 20 sentences: 1, 2, 4, 5, 6, \.\.\.$"):
        parse_generation(lines, 20)
    with pytest.raises(UserError, match="holds no translation"):
        parse_generation(["nothing"])


def test_unreadable_output(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="missing.*cannot be read"):
        read_generation(tmp_path / "missing")
    (tmp_path / "latin1").write_bytes(b"H-0\t-1.0\t\xe4")
    with pytest.raises(UserError, match="latin1.*cannot be read"):
        read_generation(tmp_path / "latin1")


def test_splits_are_found_in_both_directions(tmp_path: Path) -> None:
    for name in ("test.de-en.de.bin", "test.de-en.en.bin", "valid.de-en.de.bin"):
        (tmp_path / name).touch()
    forward = [path.name for path in split_files(tmp_path, "test", ("de", "en"))]
    backward = [path.name for path in split_files(tmp_path, "test", ("en", "de"))]
    assert forward == ["test.de-en.de.bin", "test.de-en.en.bin"]
    assert backward == forward[::-1]
    with pytest.raises(UserError, match="no split 'train' for de to en; it has test, valid"):
        split_files(tmp_path, "train", ("de", "en"))


@pytest.mark.slow
def test_generation_of_a_real_model(run: TinyRun, tmp_path: Path) -> None:
    output = tmp_path / "generate.log"

    def generate(options: SearchOptions = BEAM_1) -> None:
        return run_generation(
            run.save_dir / "checkpoint_best.pt",
            run.data_dir,
            output,
            ("de", "en"),
            options=options,
            post_process="subword_nmt",
            progress=False,
        )

    generation = generate()
    # 37 sentences: fairseq's own default would lose the last 5 without a word.
    assert len(generation.hypotheses) == 37
    assert generation.sources[-1] == "der hund sieht den baum ."
    assert generation.references is not None and "<<unk>>" in generation.references[-1]
    assert not any("@@" in line for line in generation.hypotheses)
    ours = tokenized_bleu(generation.decoded, generation.references)
    assert ours.score > 5
    assert str(ours) == str(generation.bleu)
    assert generation.sentences_per_second is not None
    assert [path.name for path in tmp_path.iterdir()] == ["generate.log"]

    # The same again is read, not run; with other options it is run.
    before = output.stat().st_mtime_ns
    assert generate() == generation
    assert output.stat().st_mtime_ns == before
    generate(SearchOptions(beam=1, cpu=True, batch_size=5))
    assert output.stat().st_mtime_ns != before


@pytest.mark.slow
def test_failing_generation_leaves_no_result(run: TinyRun, tmp_path: Path) -> None:
    broken = tmp_path / "broken.pt"
    broken.write_bytes((run.save_dir / "checkpoint_best.pt").read_bytes()[:-2000])
    output = tmp_path / "generate.log"
    with pytest.raises(UserError) as caught:
        run_generation(broken, run.data_dir, output, ("de", "en"), options=BEAM_1, progress=False)
    assert "status 1" in str(caught.value) and "broken.pt" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not output.exists()
