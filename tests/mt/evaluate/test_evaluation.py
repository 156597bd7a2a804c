from __future__ import annotations

import json
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from our_commands import run_command
from outputs import chrf_score
from tinyrun import TinyRun

from fairseq_cgc.inference.binarised import read_sentences, split_files
from fairseq_cgc.inference.search_options import SearchOptions
from fairseq_cgc.inference.text.pipeline import TextPipeline
from fairseq_cgc.inference.translator import Translator
from fairseq_cgc.mt.evaluate import evaluation
from fairseq_cgc.mt.evaluate.evaluation import (
    Model,
    default_output,
    describe_weights,
    evaluate,
    plain_references,
    prepare_model,
)
from fairseq_cgc.mt.evaluate.translated_split import translate_split
from fairseq_cgc.mt.train.averaging import epoch_checkpoints
from fairseq_cgc.support.checkpoints import load_model_state
from fairseq_cgc.support.errors import UserError

BEAM_2 = SearchOptions(beam=2, cpu=True)


def test_model_of_a_file_or_folder(tmp_path: Path) -> None:
    best = tmp_path / "checkpoint_best.pt"
    with pytest.raises(UserError, match="checkpoint_best.pt does not exist"):
        prepare_model(tmp_path, None)
    best.touch()
    assert prepare_model(tmp_path, None) == prepare_model(best, None) == Model(best, [best])
    assert Model(best, [best]).name == "checkpoint_best"
    with pytest.raises(UserError, match="is one checkpoint; to average, give the folder"):
        prepare_model(best, {"best": 2})


def test_results_are_named_after_what_they_depend_on(tmp_path: Path) -> None:
    model = Model(tmp_path / "checkpoint_best.pt", [])
    name = "checkpoint_best.test.beam2-lenpen1"
    assert default_output(model, "test", BEAM_2) == tmp_path / name
    options = SearchOptions(beam=2, precision="int8", cpu=True)
    assert default_output(model, "test", options) == tmp_path / f"{name}-int8"


@pytest.mark.slow
def test_it_averages_generates_and_scores(run: TinyRun, tmp_path: Path) -> None:
    save_dir = tmp_path / "save"
    shutil.copytree(run.save_dir, save_dir)
    arguments = [save_dir, "--data", run.data_dir, "--last-epochs", 3, "--beam", 2, "--cpu"]
    done = run_command("evaluate", *arguments)
    assert done.returncode == 0, done.stderr.decode()
    (output,) = (path for path in save_dir.iterdir() if path.is_dir())
    assert output.name == "average-last-epochs-3.test.beam2-lenpen1"
    hypotheses = (output / "hypotheses.txt").read_text(encoding="utf-8").splitlines()
    assert len(hypotheses) == 37
    assert not any(" ." in line or "@@" in line for line in hypotheses)

    record = json.loads((output / "scores.json").read_text(encoding="utf-8"))
    assert record["command"] == ["fairseq-cgc", "evaluate", *map(str, arguments)]
    assert record["checkpoint"] == str(save_dir / "average-last-epochs-3.pt")
    assert len(record["averaged_checkpoints"]) == 3
    assert (record["beam"], record["lenpen"], record["sentences"]) == (2, 1.0, 37)
    assert record["seconds"] == pytest.approx(37 / record["sentences_per_second"])
    assert set(record["versions"]) == {"python", "torch", "fairseq", "sacrebleu"}
    scores = record["scores"]
    # The raw references are cased; the model's output is not.
    assert "case:lc" in scores["sacrebleu"]["signature"] and scores["sacrebleu"]["score"] > 5
    assert "case:lc" in scores["chrf"]["signature"]
    other = scores["sacrebleu_other_case"]
    assert "case:mixed" in other["signature"] and other["score"] < scores["sacrebleu"]["score"]
    assert scores["note"] is None and record["lenpen_tuning"] is None
    printed = done.stdout.decode()
    assert f"| sacreBLEU, lower case | {scores['sacrebleu']['score']:6.2f} |" in printed

    # Nothing is done twice, and nothing is different the second time.
    times = [(output / "translations.jsonl").stat().st_mtime_ns]
    times.append((save_dir / "average-last-epochs-3.pt").stat().st_mtime_ns)
    again = run_command("evaluate", *arguments)
    assert again.stdout.decode() == printed
    assert times[0] == (output / "translations.jsonl").stat().st_mtime_ns
    assert times[1] == (save_dir / "average-last-epochs-3.pt").stat().st_mtime_ns


def test_weights_are_described() -> None:
    assert describe_weights(["a.pt"], [1200]) == "a.pt (update 1,200)"
    assert describe_weights(["a.pt"], [None]) == "a.pt (update unknown)"
    assert describe_weights(["mean.pt"], [1, 2]) == "mean.pt (average of updates 1, 2)"
    assert describe_weights(["a.pt", "b.pt"], [1, 2]) == "average of a.pt, b.pt (updates 1, 2)"


@pytest.mark.slow
def test_by_default_a_folder_is_ten_epochs_or_all_that_it_has(run: TinyRun, tmp_path: Path) -> None:
    save_dir = tmp_path / "save"
    shutil.copytree(run.save_dir, save_dir, ignore=shutil.ignore_patterns("average-*"))
    names = [path.name for path in epoch_checkpoints(save_dir)]
    assert names == [f"checkpoint{epoch}.pt" for epoch in (5, 6, 7, 8)]
    done = run_command("evaluate", save_dir, "--data", run.data_dir, "--cpu")
    assert done.returncode == 0, done.stderr.decode()
    told = f"{save_dir} has 4 of the last 10 epochs; averaging these\n"
    assert told in done.stderr.decode()
    last = load_model_state(save_dir / "checkpoint_last.pt")["optimizer_history"][-1]["num_updates"]
    updates = [last * epoch // 8 for epoch in (5, 6, 7, 8)]
    listed = ", ".join(map(str, updates))
    printed = done.stdout.decode()
    assert f"scored: average of {', '.join(names)} (updates {listed})\n" in printed
    output = save_dir / "average-last-epochs-4.test.beam6-lenpen1"
    assert json.loads((output / "scores.json").read_text())["updates"] == updates

    done = run_command("evaluate", save_dir, "--data", run.data_dir, "--last-epochs", 10)
    message = done.stderr.decode().strip()
    assert done.returncode == 1 and done.stdout == b""
    assert message.startswith("error: --last-epochs is 10, but ") and "\n" not in message
    assert "has 4 files" in message


def test_before_the_first_epochs_end_the_last_checkpoint_is_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "fairseq_cgc")
    selection = {"last_epochs": 2}
    with pytest.raises(UserError, match="no checkpointEPOCH.pt, no checkpoint_last.pt"):
        prepare_model(tmp_path, selection, or_fewer=True)
    last = tmp_path / "checkpoint_last.pt"
    torch.save({"model": {}, "optimizer_history": [{"num_updates": 20}]}, last)
    model = prepare_model(tmp_path, selection, or_fewer=True)
    assert (model.path, model.inputs, model.updates) == (last, [last], [20])
    assert "has no checkpointEPOCH.pt; checkpoint_last.pt is taken as it is" in caplog.text
    with pytest.raises(UserError, match="--last-epochs is 2, but .* has 0 files"):
        prepare_model(tmp_path, selection)


@pytest.mark.slow
def test_references(run: TinyRun, tmp_path: Path) -> None:
    """Own references, too few references, and data that does not say how it was prepared."""
    model = prepare_model(run.save_dir / "checkpoint_last.pt", None)
    bare = tmp_path / "bare"
    shutil.copytree(run.data_dir, bare)
    (bare / "preparation.json").unlink()

    scores, output = evaluate(model, bare, options=BEAM_2, output=tmp_path / "out")
    assert output == tmp_path / "out"
    assert scores.note is not None and "tokenised" in scores.note
    assert "case:mixed" in scores["sacrebleu"].signature
    assert (output / "hypotheses.txt").read_text(encoding="utf-8").startswith("the ")

    own = tmp_path / "own.en"
    own.write_text((output / "hypotheses.txt").read_text(encoding="utf-8"), encoding="utf-8")
    in_data, _ = evaluate(model, run.data_dir, options=BEAM_2, output=tmp_path / "own")
    scores, _ = evaluate(
        model, run.data_dir, options=BEAM_2, reference=own, output=tmp_path / "own"
    )
    assert scores["chrf"].score == pytest.approx(100) and scores.note is None
    assert scores["tokenized"].score < 99

    own.write_text("one line\n", encoding="utf-8")
    # Without the data's own target side, the raw text is tokenised for BLEU-4; and the folder's own
    # raw text does as well as a file.
    only_source = tmp_path / "only-source"
    shutil.copytree(run.data_dir, only_source, ignore=shutil.ignore_patterns("test.de-en.en.*"))
    out = tmp_path / "only"
    with_own, _ = evaluate(model, only_source, options=BEAM_2, reference=run.raw["en"], output=out)
    whole, _ = evaluate(model, only_source, options=BEAM_2, output=out)
    assert with_own == whole and whole["sacrebleu"] == in_data["sacrebleu"]
    # The one word that the dictionary does not have is in raw text.
    assert whole["tokenized"].score == pytest.approx(in_data["tokenized"].score, abs=0.01)


def test_a_split_without_sentences_is_no_test_set(tmp_path: Path) -> None:
    header = b"MMIDIDX\x00\x00" + (1).to_bytes(8, "little") + b"\x08" + bytes(8)
    for lang in ("de", "en"):
        (tmp_path / f"test.de-en.{lang}.bin").touch()
        (tmp_path / f"test.de-en.{lang}.idx").write_bytes(header)
    with pytest.raises(UserError, match="the test split of .* has no sentences"):
        plain_references(tmp_path, "test", ("de", "en"), None, None)


@pytest.mark.slow
def test_two_evaluations_into_one_folder_take_turns(
    run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = 0

    def translate_alone(*arguments: Any, **options: Any) -> Any:
        nonlocal inside
        inside += 1
        time.sleep(0.5)
        assert inside == 1
        result = translate_split(*arguments, **options, progress=False)
        inside -= 1
        return result

    monkeypatch.setattr(evaluation, "translate_split", translate_alone)
    model = prepare_model(run.save_dir / "checkpoint_last.pt", None)
    with ThreadPoolExecutor(2) as pool:
        calls = [
            pool.submit(evaluate, model, run.data_dir, options=BEAM_2, output=tmp_path / "out")
            for _ in range(2)
        ]
        (one, _), (other, _) = (call.result() for call in calls)
    assert one == other


@pytest.mark.slow
def test_mistakes_are_told_before_anything_is_translated(run: TinyRun, tmp_path: Path) -> None:
    model = prepare_model(run.save_dir / "checkpoint_last.pt", None)
    with pytest.raises(UserError, match="absent: cannot be read"):
        evaluate(model, run.data_dir, reference=tmp_path / "absent", output=tmp_path / "out")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="--output .*file is a file, but must be a folder"):
        evaluate(model, run.data_dir, output=tmp_path / "file")
    (tmp_path / "file").write_text("one line\n", encoding="utf-8")
    with pytest.raises(UserError, match="file has 1 lines, but the test split .* has 37"):
        evaluate(model, run.data_dir, reference=tmp_path / "file", output=tmp_path / "out")
    data = tmp_path / "data"
    ignored = shutil.ignore_patterns("test.de-en.en.*", "preparation.json")
    shutil.copytree(run.data_dir, data, ignore=ignored)
    with pytest.raises(UserError, match="has no en side of 'test' .*; give .* with --reference"):
        evaluate(model, data, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_references_from_the_data_are_detokenised(run: TinyRun, tmp_path: Path) -> None:
    """Data that says how it was prepared but has no raw text, as a released corpus has none."""
    model = prepare_model(run.save_dir / "checkpoint_last.pt", None)
    data = tmp_path / "data"
    shutil.copytree(run.data_dir, data)
    description = json.loads((data / "preparation.json").read_text(encoding="utf-8"))
    description["raw"] = {}
    (data / "preparation.json").write_text(json.dumps(description), encoding="utf-8")

    whole, _ = evaluate(model, run.data_dir, options=BEAM_2, output=tmp_path / "out")
    scores, output = evaluate(model, data, options=BEAM_2, output=tmp_path / "bare")
    assert scores.note == (
        "no raw references in the data: sacreBLEU and chrF are against references detokenised "
        "from it"
    )
    # Lower case is all that the raw text and the text in the data differ in, but for one word
    # that the dictionary does not have.
    assert scores["sacrebleu"].score == pytest.approx(whole["sacrebleu"].score, abs=0.2)
    assert scores["sacrebleu_other_case"].score == scores["sacrebleu"].score
    assert whole["sacrebleu_other_case"].score < whole["sacrebleu"].score - 5
    assert scores["tokenized"] == whole["tokenized"]


@pytest.mark.slow
def test_sentences_that_are_too_long_for_the_model_are_cut(
    run: TinyRun, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    translator = Translator(run.save_dir / "checkpoint_last.pt", run.data_dir, BEAM_2)
    (path, _) = split_files(run.data_dir, "test", ("de", "en"))
    lengths = [len(tokens) for tokens in read_sentences(path)]
    translator.max_source_positions = limit = max(lengths) - 2
    found = translate_split(
        translator, run.data_dir, "test", tmp_path / "out", inputs=[path], subwords=None
    )
    assert [len(line.split()) + 1 for line in found.sources] == [min(n, limit) for n in lengths]
    assert caplog.text.count("the rest is not translated") == sum(n > limit for n in lengths)
    assert f"sentence {lengths.index(max(lengths)) + 1} of test has" in caplog.text


@pytest.mark.parametrize("tokenizer, text", [("moses", "a b's."), ("none", "a b &apos;s .")])
def test_unknown_words_of_references_match_nothing(
    tokenizer: str, text: str, tmp_path: Path
) -> None:
    pipeline = TextPipeline(
        "de", "en", tokenizer, False, True, "subword_nmt", "code", True, data_dir=tmp_path
    )
    tokens = ["a b &apos;s .", "<<unk>> c"]
    assert evaluation._detokenized_references(tokens, pipeline) == [text, "\ufffd c"]
    assert evaluation._detokenized_references(["<<unk>> c"], None) == ["\ufffd c"]
    assert chrf_score(["<unk>"], ["\ufffd"]).score == 0 < chrf_score(["<unk>"], ["<<unk>>"]).score
