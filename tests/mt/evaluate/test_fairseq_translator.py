"""Architectures that only fairseq knows are translated by fairseq, behind the same interface."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from fairseq import options, tasks
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from omegaconf import OmegaConf
from our_commands import call
from tinyrun import TinyRun, make_pairs

from fairseq_cgc.inference.search_options import SearchOptions
from fairseq_cgc.inference.translator import Translator
from fairseq_cgc.mt.evaluate.evaluation import Model, evaluate
from fairseq_cgc.mt.evaluate.fairseq_translator import FairseqTranslator, open_translator
from fairseq_cgc.support.errors import UserError

pytestmark = pytest.mark.slow
BEAM_3 = SearchOptions(beam=3, nbest=2, max_len_a=0.0, max_len_b=20, cpu=True)


@pytest.fixture(scope="module")
def transformer(run: TinyRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained Transformer on the tiny data."""
    words = [str(run.data_dir), "-s", "de", "-t", "en", "--arch", "transformer_tiny"]
    args = options.parse_args_and_arch(options.get_training_parser(), words)
    cfg = convert_namespace_to_omegaconf(args)
    task = tasks.setup_task(cfg.task)
    torch.manual_seed(1)
    model = task.build_model(cfg.model)
    path = tmp_path_factory.mktemp("transformer") / "model.pt"
    cfg = OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)
    history = [{"num_updates": 0, "criterion_name": "", "lr_scheduler_state": {}}]
    extra = {"train_iterator": {"epoch": 1, "iterations_in_epoch": 0}}
    state = {"cfg": cfg, "args": None, "model": model.state_dict()}
    torch.save({**state, "optimizer_history": history, "extra_state": extra}, path)
    return path


def test_a_transformer_is_translated_by_fairseq(run: TinyRun, transformer: Path) -> None:
    translator = open_translator(transformer, run.data_dir, BEAM_3)
    assert type(translator) is FairseqTranslator
    lines = [source for source, _ in make_pairs(5, seed=4)]
    together = [[t.text for t in found] for found in translator.nbest(lines)]
    assert all(len(found) == 2 for found in together)
    alone = [[t.text for t in next(translator.nbest([line]))] for line in lines]
    assert together == alone


def test_the_command_translates_a_transformer(
    run: TinyRun, transformer: Path, tmp_path: Path
) -> None:
    text, output = tmp_path / "text", tmp_path / "output"
    text.write_text(make_pairs(1, seed=4)[0][0] + "\n")
    words = ["--data", run.data_dir, "--cpu", "--input", text, "--output", output, "--nbest", 2]
    call("translate", transformer, *words, "--beam", 3, "--max-len-a", 0, "--max-len-b", 20)
    found = next(open_translator(transformer, run.data_dir, BEAM_3).nbest([text.read_text()]))
    assert output.read_text() == "".join(f"1\t{t.score:.4f}\t{t.text}\n" for t in found)


def test_models_of_ours_are_not(run: TinyRun) -> None:
    checkpoint = run.save_dir / "checkpoint_best.pt"
    assert type(open_translator(checkpoint, run.data_dir, BEAM_3)) is Translator


def test_a_transformer_is_evaluated(run: TinyRun, transformer: Path, tmp_path: Path) -> None:
    scores, output = evaluate(
        Model(transformer, [transformer]), run.data_dir, options=BEAM_3, output=tmp_path / "out"
    )
    assert scores["tokenized"].score >= 0
    assert len((output / "hypotheses.txt").read_text(encoding="utf-8").splitlines()) == 37


def test_fewer_bits_are_for_lightconv(run: TinyRun, transformer: Path) -> None:
    with pytest.raises(UserError, match="--precision int8 is for lightconv_cgc and lightconv mod"):
        open_translator(transformer, run.data_dir, SearchOptions(precision="int8", cpu=True))
