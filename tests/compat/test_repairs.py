"""The repairs that can be seen within one process; tests/test_commands.py has the others."""

from __future__ import annotations

import argparse
import logging
import os
import re
import shutil
import subprocess
import sys
import warnings
from importlib.metadata import version
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from fairseq import options, utils
from fairseq.data import data_utils
from fairseq.dataclass.configs import CommonConfig, FairseqConfig
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.distributed import utils as distributed_utils
from fairseq.file_io import PathManager
from fairseq.tasks.translation import TranslationConfig, TranslationTask
from fairseq.trainer import Trainer
from omegaconf import OmegaConf
from torch.utils.data import DataLoader

import fairseq_cgc.models
from fairseq_cgc import compat
from fairseq_cgc.compat import training
from fairseq_cgc.compat.imports import silence_warnings
from fairseq_cgc.core import UserError
from fairseq_cgc.support.environment import has_fast_bfloat16

ROOT = Path(fairseq_cgc.__file__).parent.parent


def run_python(code: str, *, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh process that finds ``fairseq_cgc`` in ``folder``."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=folder
    )


def test_every_repair_is_made_once():
    before = options.parse_args_and_arch
    assert compat.apply() == compat.apply()
    assert options.parse_args_and_arch is before
    assert set(compat.apply()) == {fix.name for fix in compat.FIXES}


def test_attention_is_not_cudnns():
    assert not torch.backends.cuda.cudnn_sdp_enabled()


def parse(*arguments: str, parser: argparse.ArgumentParser | None = None) -> argparse.Namespace:
    parser = parser or options.get_training_parser()
    return options.parse_args_and_arch(parser, ["DATA", "--arch", "lightconv_cgc", *arguments])


@pytest.mark.parametrize(
    ("arguments", "bf16", "tpu"),
    [([], False, False), (["--bf16"], True, False), (["--bf16", "--tpu"], True, True)],
)
def test_bf16_does_not_mean_tpu(arguments, bf16, tpu):
    args = parse(*arguments)
    assert (args.bf16, args.tpu) == (bf16, tpu)


@pytest.mark.parametrize(
    ("arguments", "fast", "advice"),
    [
        (["--cpu"], True, "--bf16 trains faster than float32"),
        (["--cpu"], False, ""),
        (["--cpu", "--bf16"], True, ""),
        (["--cpu", "--fp16"], True, "--fp16 is several times slower .* use --bf16"),
        (["--cpu", "--fp16"], False, "--fp16 is several times slower .* leave it out"),
        (["--cpu", "--memory-efficient-fp16"], True, "--fp16 is several times slower"),
    ],
)
def test_a_cpu_is_advised_on_precision(arguments, fast, advice, monkeypatch, caplog):
    caplog.set_level("INFO", "fairseq_cgc")
    monkeypatch.setattr(training, "has_fast_bfloat16", lambda: fast)
    training._advise_on_precision(convert_namespace_to_omegaconf(parse(*arguments)))
    assert len(caplog.messages) == bool(advice)
    assert re.search(advice, "".join(caplog.messages))


def test_fast_bfloat16_is_what_torch_says(monkeypatch):
    for avx512, amx in ((False, False), (True, False), (False, True)):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda answer=avx512: answer)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda answer=amx: answer)
        assert has_fast_bfloat16() == (avx512 or amx)
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported")
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported")
    assert has_fast_bfloat16() is False


def test_importing_fairseq_asks_for_no_tensorboard():
    program = "import sys, logging; sys.modules['tensorboardX'] = None; import fairseq_cgc.models"
    done = run_python(program)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_copy_that_breaks_off_leaves_the_last_checkpoint(monkeypatch, tmp_path):
    new, last = tmp_path / "checkpoint_1_100.pt", tmp_path / "checkpoint_last.pt"
    new.write_text("new")
    last.write_text("last")

    def break_off(source: str, target: str) -> None:
        Path(target).write_text("n")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", break_off)
        with pytest.raises(KeyboardInterrupt):
            PathManager.copy(str(new), str(last), overwrite=True)
    assert last.read_text() == "last"
    assert PathManager.copy(str(new), str(last), overwrite=True)
    assert last.read_text() == "new"
    assert sorted(tmp_path.iterdir()) == [new, last]


@pytest.mark.parametrize("multiple", [1, 8])
@pytest.mark.parametrize("max_sentences", [None, 1, 3, 8])
@pytest.mark.parametrize("number", [1, 2, 7, 40, 41])
def test_no_sentence_is_dropped(number, max_sentences, multiple):
    lengths = np.arange(number) // 3 + 1
    batches = data_utils.batch_by_size(
        np.arange(number)[::-1],
        lambda i: lengths[i],
        num_tokens_vec=lengths[::-1].copy(),
        max_tokens=60,
        max_sentences=max_sentences,
        required_batch_size_multiple=multiple,
    )
    assert np.concatenate(batches).tolist() == list(range(number))[::-1]
    assert all(len(batch) <= (max_sentences or number) for batch in batches)
    assert all(len(batch) * max(lengths[batch]) <= 60 for batch in batches)


def test_last_epochs_workers_have_ended_before_the_next_epochs_start():
    loaders = [DataLoader([1, 2], num_workers=1, persistent_workers=True) for _ in range(2)]
    trainer = Mock()
    trainer.cfg.dataset.max_tokens, trainer.cfg.common.seed = 10, 1
    trainer.task.max_positions.return_value = trainer.model.max_positions.return_value = 10
    trainer.task.get_batch_iterator.side_effect = [Mock(dataloader=loader) for loader in loaders]
    assert Trainer.get_train_iterator(trainer, 1).dataloader is loaders[0]
    assert len(list(loaders[0])) == 2
    (worker,) = loaders[0]._iterator._workers
    assert worker.is_alive()
    Trainer.get_train_iterator(trainer, 2)
    assert worker.exitcode == 0  # by itself; not killed because it was not told to end


def test_numpy_aliases_are_back():
    mask = data_utils.compute_block_mask_1d((2, 40), mask_prob=0.5, mask_length=4)
    assert mask.shape == (2, 40)
    assert np.int is int and np.float is float and np.compat.long is int


@pytest.mark.parametrize("num_buckets", [1, 2, 50])
def test_num_batch_buckets_loses_no_sentence(num_buckets, toy_data):
    config = TranslationConfig(data=str(toy_data), num_batch_buckets=num_buckets)
    config.dataset_impl, config.train_subset, config.required_seq_len_multiple = "mmap", "train", 1
    task = TranslationTask.setup_task(config)
    task.load_dataset("train")
    iterator = task.get_batch_iterator(task.dataset("train"), max_tokens=100, epoch=1)
    seen = torch.cat([batch["id"] for batch in iterator.next_epoch_itr()])
    assert seen.sort().values.tolist() == list(range(300))
    lengths = task.dataset("train").src_sizes
    assert len(set(lengths)) <= num_buckets


@pytest.mark.parametrize(
    "message",
    [
        "hydra.experimental.initialize() is no longer experimental.",
        "\nThe strict flag in the compose API is deprecated.",
        "\nThe version_base parameter is not specified.",
        "`torch.cuda.amp.GradScaler(args...)` is deprecated.",
        "'pin_memory' argument is set as true but no accelerator is found",
    ],
)
def test_known_warnings_are_silent(message):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        silence_warnings()
        warnings.warn(message, FutureWarning, stacklevel=1)
        warnings.warn("something else", FutureWarning, stacklevel=1)
    assert [str(warning.message) for warning in seen] == ["something else"]


def test_import_leaves_logging_alone():
    result = run_python(
        "import logging, fairseq_cgc; root = logging.getLogger(); print(root.level, root.handlers)"
    )
    assert result.stdout == f"{30} []\n", result.stderr


WITHOUT_FAIRSEQ = (
    "import sys; sys.modules['fairseq'] = None\n"
    "import importlib.util as u; find = u.find_spec\n"
    "u.find_spec = lambda name, *a: None if name == 'fairseq' else find(name, *a)\n"
)


def test_core_needs_no_fairseq():
    result = run_python(
        WITHOUT_FAIRSEQ
        + "import fairseq_cgc.core; print('omegaconf' in sys.modules, 'hydra' in sys.modules)"
    )
    assert result.stdout == "False False\n", result.stderr


def test_models_say_how_to_install_fairseq():
    result = run_python(WITHOUT_FAIRSEQ + "import fairseq_cgc.models")
    assert "pip install --no-build-isolation fairseq-fixed" in result.stderr.splitlines()[-1]


def test_user_dir_of_the_imported_copy_is_fine_under_any_name(tmp_path):
    here = Path(fairseq_cgc.__file__).parent
    utils.import_user_module(argparse.Namespace(user_dir=str(here)))
    (tmp_path / here.name).symlink_to(here)
    utils.import_user_module(argparse.Namespace(user_dir=str(tmp_path / here.name)))


def test_second_copy_is_told(tmp_path):
    here = Path(fairseq_cgc.__file__).parent
    copy = tmp_path / here.name
    shutil.copytree(here, copy, ignore=shutil.ignore_patterns("__pycache__"))
    with pytest.raises(UserError, match=r"two copies of fairseq_cgc: --user-dir is .*uninstall"):
        utils.import_user_module(argparse.Namespace(user_dir=str(copy)))


def test_user_dir_works_after_a_plain_import():
    result = run_python(
        "import argparse, fairseq_cgc\n"
        "from fairseq import utils\n"
        "from fairseq.models import ARCH_MODEL_REGISTRY\n"
        "utils.import_user_module(argparse.Namespace(user_dir='fairseq_cgc'))\n"
        "print('lightconv_cgc_tiny' in ARCH_MODEL_REGISTRY)"
    )
    assert result.stdout == "True\n", result.stderr


def test_main_prints_what_a_user_needs():
    result = subprocess.run(
        [sys.executable, "-m", "fairseq_cgc", "info"], capture_output=True, text=True, cwd=ROOT
    )
    assert result.stdout.startswith(f"--user-dir {ROOT / 'fairseq_cgc'}\n")
    assert f"torch {version('torch')}" in result.stdout
    assert "lightconv_cgc_iwslt_de_en" in result.stdout
    for fix in compat.FIXES:
        assert f"  {fix.name}: " in result.stdout
    assert result.stderr == ""


@pytest.mark.parametrize("command", ["fairseq-train", "train.py"])
def test_one_line_errors_are_for_fairseqs_commands_only(command):
    result = run_python(
        f"import sys; sys.argv = [{command!r}]\n"
        "import fairseq_cgc.models\n"
        "from fairseq_cgc.core import UserError\n"
        "try:\n    raise UserError('--beam is 0, but must be positive')\n"
        "except ValueError:\n    raise RuntimeError('wrapped')"
    )
    assert result.returncode == 1
    if command == "fairseq-train":
        assert result.stderr == "error: --beam is 0, but must be positive\n"
    else:
        assert "RuntimeError: wrapped" in result.stderr


def test_the_folder_of_the_log_file_is_made(tmp_path):
    log = tmp_path / "new" / "save" / "train.log"
    cfg = OmegaConf.structured(FairseqConfig(common=CommonConfig(cpu=True, log_file=str(log))))
    distributed_utils.call_main(cfg, lambda cfg: logging.FileHandler(cfg.common.log_file).close())
    assert log.is_file()
    cfg.common.log_file = str(log / "train.log")
    with pytest.raises(UserError, match="--log-file is .*, but cannot be written"):
        distributed_utils.call_main(cfg, Mock(side_effect=AssertionError))


@pytest.mark.parametrize(
    ("name", "level", "expected"),
    [
        ("fairseq-generate", None, logging.INFO),
        ("fairseq-generate", "warning", logging.WARNING),
        ("fairseq-hydra-train", None, logging.DEBUG),
        ("my-program", None, logging.DEBUG),
    ],
)
def test_fairseqs_commands_print_no_debug_messages(name, level, expected):
    result = run_python(
        f"import logging, os, sys; sys.argv = [{name!r}]; os.environ.pop('LOGLEVEL', None)\n"
        f"os.environ.update({{'LOGLEVEL': {level!r}}} if {level!r} else {{}})\n"
        "import fairseq.models; logging.getLogger().setLevel(logging.DEBUG)\n"
        "import fairseq_cgc.models; print(logging.getLogger().level)"
    )
    assert result.stdout == f"{expected}\n", result.stderr


def test_a_mistaken_path_is_one_line():
    for error, shown in (
        ("FileNotFoundError(2, 'No such file or directory', 'DATA')", "error: [Errno 2] No such"),
        ("ConnectionResetError('gone')", "Traceback"),
    ):
        code = f"import sys; sys.argv = ['fairseq-train']; import fairseq_cgc.models; raise {error}"
        assert run_python(code).stderr.startswith(shown)


@pytest.mark.parametrize("value", ["١٢", "[3, 7", "[3, x]", "(" * 5000, "{}[0]"])
def test_lists_that_python_cannot_read_are_told_by_argparse(value, capsys):
    parser = options.get_training_parser()
    arguments = ["DATA", "--arch", "lightconv_cgc_tiny", f"--encoder-kernel-size-list={value}"]
    with pytest.raises(SystemExit):
        options.parse_args_and_arch(parser, arguments)
    assert "must be numbers such as 3 or [3, 7], but is" in capsys.readouterr().err
