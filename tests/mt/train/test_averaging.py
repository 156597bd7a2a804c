from __future__ import annotations

import argparse
import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch

from fairseq_cgc.mt.train import averaging
from fairseq_cgc.mt.train.averaging import (
    average,
    check_may_be_replaced,
    is_average_of,
    select_checkpoints,
)
from fairseq_cgc.support.checkpoints import read_config
from fairseq_cgc.support.errors import UserError


def write(path: Path, model: dict[str, torch.Tensor], **more: Any) -> Path:
    torch.save({"model": model, **more}, path)
    return path


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).touch()


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def test_last_epochs_are_chosen_by_number(tmp_path: Path) -> None:
    touch(tmp_path, *(f"checkpoint{epoch}.pt" for epoch in (1, 2, 9, 10, 11)))
    touch(tmp_path, "checkpoint_best.pt", "checkpoint_last.pt", "checkpoint_12_900.pt")
    chosen = select_checkpoints(tmp_path, last_epochs=3)
    assert names(chosen) == ["checkpoint9.pt", "checkpoint10.pt", "checkpoint11.pt"]


def test_last_updates_are_chosen_by_number(tmp_path: Path) -> None:
    touch(tmp_path, "checkpoint_9_900.pt", "checkpoint_3_1200.pt", "checkpoint_2_1000.pt")
    touch(tmp_path, "checkpoint7.pt")
    chosen = select_checkpoints(tmp_path, last_updates=2)
    assert names(chosen) == ["checkpoint_2_1000.pt", "checkpoint_3_1200.pt"]


@pytest.mark.parametrize("as_namespace", [False, True])
@pytest.mark.parametrize(
    ("metric", "higher_is_better", "expected"),
    [("bleu", True, ["9.2301", "10.1500"]), ("nll_loss", False, ["9.2301", "-1.5000"])],
)
def test_best_asks_the_checkpoint_what_is_better(
    tmp_path: Path, metric: str, higher_is_better: bool, expected: list[str], as_namespace: bool
) -> None:
    options = {"maximize_best_checkpoint_metric": higher_is_better}
    more = (
        {"args": argparse.Namespace(**options)}
        if as_namespace
        else {"args": None, "cfg": {"checkpoint": options}}
    )
    for value in (
        ("10.1500", "9.2301", "-1.5000") if metric != "bleu" else ("10.1500", "9.2301", "1.5")
    ):
        write(tmp_path / f"checkpoint.best_{metric}_{value}.pt", {}, **more)
    chosen = select_checkpoints(tmp_path, best=2)
    assert names(chosen) == [f"checkpoint.best_{metric}_{value}.pt" for value in expected]


def test_best_of_two_metrics_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "checkpoint.best_bleu_3.1000.pt", "checkpoint.best_loss_3.1000.pt")
    with pytest.raises(UserError, match="bleu and loss"):
        select_checkpoints(tmp_path, best=1)


def test_too_few_checkpoints_are_listed(tmp_path: Path) -> None:
    touch(tmp_path, "checkpoint2.pt", "checkpoint10.pt")
    message = r"--last-epochs is 5, but .* has 2 files .*\(checkpoint2.pt, checkpoint10.pt\)"
    with pytest.raises(UserError, match=message):
        select_checkpoints(tmp_path, last_epochs=5)
    with pytest.raises(UserError, match="--best is 1, but .* has 0 files"):
        select_checkpoints(tmp_path, best=1)


@pytest.mark.parametrize("selection", [{}, {"best": 1, "last_epochs": 1}])
def test_one_selection_is_required(tmp_path: Path, selection: dict[str, int]) -> None:
    with pytest.raises(UserError, match="exactly one of"):
        select_checkpoints(tmp_path, **selection)


def test_numbers_and_folders_are_checked(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--best must be at least 1, but is 0"):
        select_checkpoints(tmp_path, best=0)
    with pytest.raises(UserError, match="is not a folder"):
        select_checkpoints(tmp_path / "missing", best=1)


def test_average_is_the_mean_in_double_precision(tmp_path: Path) -> None:
    # In float32, 2**24 + 1 + 1 is 2**24.
    paths = [
        write(
            tmp_path / f"{i}.pt",
            {
                "w": torch.tensor([value, -value]),
                "half": torch.tensor([value / 2**14]).half(),
                "count": torch.tensor([7]),
            },
        )
        for i, value in enumerate((2.0**24, 1.0, 1.0))
    ]
    average(paths, tmp_path / "out.pt", progress=False)
    model = torch.load(tmp_path / "out.pt", weights_only=True)["model"]
    assert model["w"].tolist() == [5592406.0, -5592406.0]
    assert model["half"].dtype == torch.float16
    assert model["half"].item() == pytest.approx((1024 + 2 * 2**-14) / 3, rel=1e-3)
    assert model["count"].tolist() == [7]


def test_average_keeps_the_rest_of_the_last_but_no_optimizer(tmp_path: Path) -> None:
    paths = [
        write(
            tmp_path / f"{i}.pt",
            {"w": torch.tensor([float(i)])},
            cfg={"task": {"data": f"data{i}"}},
            extra_state={"epoch": i},
            last_optimizer_state={"m": torch.zeros(1000)},
        )
        for i in range(2)
    ]
    average(paths, tmp_path / "out.pt", progress=False)
    state = torch.load(tmp_path / "out.pt", weights_only=True)
    assert state["cfg"] == {"task": {"data": "data1"}} and state["extra_state"] == {"epoch": 1}
    assert "last_optimizer_state" not in state
    assert state["model"]["w"].item() == 0.5


def test_average_stores_tied_parameters_once(tmp_path: Path) -> None:
    paths = []
    for i in range(3):
        shared = torch.full((4, 2), float(i))
        alone = torch.full((4, 2), float(i))
        model = {"encoder.embed": shared, "alone": alone, "decoder.embed": shared}
        paths.append(write(tmp_path / f"{i}.pt", model))
    average(paths, tmp_path / "out.pt", progress=False)
    model = torch.load(tmp_path / "out.pt", weights_only=True)["model"]
    assert list(model) == ["encoder.embed", "alone", "decoder.embed"]
    assert model["encoder.embed"].data_ptr() == model["decoder.embed"].data_ptr()
    assert model["alone"].data_ptr() != model["decoder.embed"].data_ptr()
    assert torch.equal(model["decoder.embed"], torch.ones(4, 2))


def test_average_refuses_parameters_tied_in_the_last_only(tmp_path: Path) -> None:
    shared = torch.ones(2)
    first = write(tmp_path / "a.pt", {"x": torch.ones(2), "y": torch.zeros(2)})
    last = write(tmp_path / "b.pt", {"x": shared, "y": shared})
    with pytest.raises(UserError, match="y and x are one parameter in .*b.pt"):
        average([first, last], tmp_path / "out.pt", progress=False)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"a": torch.ones(2)}, r"two.pt has no parameter n, which .*one.pt has"),
        (
            {"a": torch.ones(2), "n": torch.tensor(1), "z": torch.ones(1)},
            r"one.pt has no parameter z, which .*two.pt has",
        ),
        (
            {"a": torch.ones(3), "n": torch.tensor(1)},
            r"a has shape \(3,\) in .*two.pt, but \(2,\) in .*one.pt",
        ),
        ({"a": torch.ones(2), "n": torch.tensor(2)}, r"n is not the same in .*two.pt"),
        ({"a": torch.ones(2), "n": torch.tensor(1.0)}, r"n is not the same in .*two.pt"),
    ],
)
def test_average_names_the_first_difference(
    tmp_path: Path, other: dict[str, torch.Tensor], message: str
) -> None:
    one = write(tmp_path / "one.pt", {"a": torch.ones(2), "n": torch.tensor(1)})
    two = write(tmp_path / "two.pt", other)
    output = tmp_path / "out.pt"
    output.write_text("what was there before")
    with pytest.raises(UserError, match=message):
        average([one, two], output, progress=False)
    assert output.read_text() == "what was there before"
    assert sorted(names(list(tmp_path.iterdir()))) == ["one.pt", "out.pt", "two.pt"]


def test_average_holds_one_checkpoint_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [
        write(tmp_path / f"{i}.pt", {"a": torch.ones(3), "b": torch.ones(3)}) for i in range(5)
    ]
    load, seen, alive = averaging.load_model_state, [], []

    def watched_load(path: Path) -> dict[str, Any]:
        gc.collect()
        alive.append(sum(reference() is not None for reference in seen))
        state = load(path)
        seen.append(weakref.ref(state["model"]["a"]))
        return state

    monkeypatch.setattr(averaging, "load_model_state", watched_load)
    average(paths, tmp_path / "out.pt", progress=False)
    assert alive == [0] * 5


def test_average_of_what_is_no_checkpoint(tmp_path: Path) -> None:
    torch.save({"weights": 1}, tmp_path / "a.pt")
    with pytest.raises(UserError, match="a.pt has no model weights"):
        average([tmp_path / "a.pt"], tmp_path / "out.pt", progress=False)
    (tmp_path / "a.pt").write_bytes(b"PK\x03\x04 nonsense")
    with pytest.raises(UserError, match="a.pt"):
        average([tmp_path / "a.pt"], tmp_path / "out.pt", progress=False)
    with pytest.raises(UserError, match="no checkpoint"):
        average([], tmp_path / "out.pt", progress=False)
    assert not (tmp_path / "out.pt").exists()


def test_an_average_knows_its_inputs(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{i}.pt", {"w": torch.ones(1)}) for i in range(3)]
    output = tmp_path / "out.pt"
    assert not is_average_of(output, paths)
    average(paths[:2], output, progress=False)
    assert is_average_of(output, paths[:2])
    assert not is_average_of(output, paths)
    write(paths[1], {"w": torch.zeros(1)})
    assert not is_average_of(output, paths[:2])


def test_only_an_average_may_be_replaced(tmp_path: Path) -> None:
    checkpoint, output = write(tmp_path / "a.pt", {"w": torch.ones(1)}), tmp_path / "out.pt"
    check_may_be_replaced(output)
    average([checkpoint], output, progress=False)
    check_may_be_replaced(output)
    with pytest.raises(UserError, match=r"--output \S+a\.pt exists and is no average"):
        check_may_be_replaced(checkpoint)
    output.write_text("notes")
    for path in (output, Path("/dev/null"), tmp_path):
        with pytest.raises(UserError):
            check_may_be_replaced(path)


def test_read_config_of_both_formats() -> None:
    new = {"args": None, "cfg": {"task": {"source_lang": "de"}}}
    old = {"args": argparse.Namespace(source_lang="de")}
    for state in (new, old):
        assert read_config(state, "task", "source_lang") == "de"
        assert read_config(state, "task", "missing") is None
    assert read_config({"cfg": {"model": argparse.Namespace(arch="x")}}, "model", "arch") == "x"
    assert read_config({}, "task", "source_lang") is None
