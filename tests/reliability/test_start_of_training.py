"""What a training starts from: missing files are told, and checkpoints stand alone."""

from __future__ import annotations

from pathlib import Path

import demo_training
import pytest
import warm

from fairseq_cgc.models.config import CONFIG_DIR
from fairseq_cgc.support.checkpoints import safe_load

ARCHITECTURES = {
    "lightconv_cgc_tiny": [],
    "lightconv_iwslt_de_en": [
        *("--encoder-conv-type", "lightweight", "--decoder-conv-type", "lightweight"),
        *("--encoder-kernel-size-list", "[3]", "--decoder-kernel-size-list", "[3]"),
    ],
    "transformer_iwslt_de_en": [],
    "lstm": [],
}


def one_line(result: warm.Result) -> str:
    assert result.status != 0 and "Traceback" not in result.output, result.output[-3000:]
    [line] = result.errors
    return line


@pytest.mark.parametrize(
    "option",
    [
        "--restore-file",
        "--finetune-from-model",
        "--continue-once",
        "--init-from-lightconv",
        "--encoder-embed-path",
        "--decoder-embed-path",
    ],
)
def test_a_missing_file_is_told_before_anything_is_built(option, trained, tmp_path):
    missing = tmp_path / "none.pt"
    for path in (missing, "none.pt", tmp_path):
        line = one_line(demo_training.train(trained.data, tmp_path / "save", option, path))
        assert line.startswith(f"{option} is {path}, but there is no such file")
    assert not list(tmp_path.glob("save/*.pt"))


def test_hydra_tells_missing_files_and_asynchronous_writing(trained, tmp_path):
    overrides = [
        *("--config-dir", CONFIG_DIR),
        *("model=lightconv_cgc_tiny", "task=translation", f"task.data={trained.data}"),
        f"common.user_dir={warm.PACKAGE}",
        *("common.cpu=true", "dataset.max_tokens=800", "optimization.max_update=1"),
        *("optimizer=adam", "optimization.lr=[0.001]", "lr_scheduler=fixed"),
        *(f"checkpoint.save_dir={tmp_path / 'save'}", f"hydra.run.dir={tmp_path / 'run'}"),
    ]
    for override, told in (
        ("checkpoint.restore_file=none.pt", "--restore-file is none.pt, but there is no such file"),
        ("checkpoint.finetune_from_model=none.pt", "--finetune-from-model is none.pt"),
        ("++model.decoder_embed_path=none.vec", "--decoder-embed-path is none.vec"),
        ("checkpoint.write_checkpoints_asynchronously=true", "is not supported"),
    ):
        result = warm.run(tmp_path / "log", "hydra_train", *overrides, override)
        assert result.status != 0 and "Traceback" not in result.output, result.output[-3000:]
        assert told in result.output
    assert not list(tmp_path.glob("save/*.pt"))


def test_asynchronous_writing_is_refused(trained, tmp_path):
    option = "--write-checkpoints-asynchronously"
    line = one_line(demo_training.train(trained.data, tmp_path / "save", option))
    assert line.startswith(f"{option} is not supported")


def test_save_dir_elsewhere_is_refused(trained, tmp_path):
    line = one_line(demo_training.train(trained.data, tmp_path, "--save-dir", "s3://bucket/save"))
    assert line == "--save-dir is s3://bucket/save, but must be a folder of this machine"


def write_embeddings(path: Path, dictionary: Path, width: int) -> None:
    """A number of its own for every word, as word2vec writes them."""
    words = [line.split()[0] for line in dictionary.read_text("utf-8").splitlines()]
    lines = [f"{len(words)} {width}"]
    lines += [" ".join([word, *[f"{i / 1000:.3f}"] * width]) for i, word in enumerate(words)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.slow
def test_a_checkpoint_and_a_resumed_training_do_without_the_embeddings(
    architecture, trained, tmp_path
):
    embeddings = {side: tmp_path / f"{side}.vec" for side in ("encoder", "decoder")}
    for path, lang in zip(embeddings.values(), ("de", "en"), strict=True):
        write_embeddings(path, trained.data / f"dict.{lang}.txt", width=16)
    size = ["--encoder-embed-dim", "16", "--decoder-embed-dim", "16", "--decoder-out-embed-dim"]
    size = size[: 6 if architecture == "lstm" else 4] + ["16"] * (architecture == "lstm")
    command = [
        *("train", trained.data, *demo_training.MODEL, "--arch", architecture, *size),
        *ARCHITECTURES[architecture],
        *(f"--{side}-embed-path={path}" for side, path in embeddings.items()),
        *("--save-dir", tmp_path / "save", "--no-epoch-checkpoints"),
    ]
    command.remove("--share-all-embeddings")
    result = warm.run(tmp_path / "log", *command, "--max-update", "1", "--lr", "1e-9")
    assert result.status == 0, result.output[-3000:]
    last = tmp_path / "save" / "checkpoint_last.pt"
    state = safe_load(last)
    for side in embeddings:
        assert state["model"][f"{side}.embed_tokens.weight"][4:8, 0].tolist() == pytest.approx(
            [0, 0.001, 0.002, 0.003], abs=1e-5
        )
    options = state["cfg"]["model"]
    options = options if isinstance(options, dict) else vars(options)
    assert options["encoder_embed_path"] is options["decoder_embed_path"] is None
    for path in embeddings.values():
        path.unlink()
    result = warm.run(
        tmp_path / "log", "generate", trained.data, "--path", last, "--cpu", "--beam", "1"
    )
    assert result.status == 0, result.output[-3000:]
    result = warm.run(tmp_path / "log", *command, "--max-update", "2")
    assert result.status == 0, result.output[-3000:]
    assert safe_load(last)["optimizer_history"][-1]["num_updates"] == 2


def test_checkpoints_that_still_name_their_embeddings_load(trained, tmp_path):
    cfg = safe_load(trained.last)["cfg"]
    cfg["model"]["encoder_embed_path"] = cfg["model"]["init_from_lightconv"] = "gone"
    path = trained.changed(tmp_path / "old.pt", cfg=cfg)
    result = warm.run(tmp_path / "log", "generate", trained.data, "--path", path, "--cpu")
    assert result.status == 0, result.output[-3000:]


@pytest.mark.parametrize("option", ["--finetune-from-model", "--init-from-lightconv"])
def test_a_resumed_training_does_without_the_model_that_it_began_with(option, trained, tmp_path):
    start = tmp_path / "start.pt"
    if option == "--init-from-lightconv":
        state = safe_load(trained.last)
        model = {name: value for name, value in state["model"].items() if ".gate." not in name}
        trained.changed(start, model=model)
    else:
        start.write_bytes(trained.last.read_bytes())
    save_dir = tmp_path / "save"
    result = demo_training.train(trained.data, save_dir, option, start, "--max-update", "1")
    assert result.status == 0, result.output[-3000:]
    start.unlink()
    result = demo_training.train(trained.data, save_dir, option, start, "--max-update", "2")
    assert result.status == 0, result.output[-3000:]
    state = safe_load(save_dir / "checkpoint_last.pt")
    assert state["optimizer_history"][-1]["num_updates"] == 2
