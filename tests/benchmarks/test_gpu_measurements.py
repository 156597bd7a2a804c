"""What the benchmarks do on a GPU only, with a simulated GPU."""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
import toy

from fairseq_cgc.core import UserError

NAMES = ("timing", "systems", "op", "step", "decode", "conv", "run")


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """Imports a module of benchmarks/, and forgets it after the test."""
    monkeypatch.syspath_prepend(str(toy.ROOT / "benchmarks"))
    yield importlib.import_module
    for name in NAMES:
        sys.modules.pop(name, None)


def make_settings(load: Callable[[str], ModuleType], **changes: Any) -> Any:
    values = {"device": "cuda", "quick": False, "precision": None, "seconds": 0.0}
    return load("timing").Settings(**{**values, "checkpoint": None, "data": None, **changes})


class TestGpuTimes:
    @pytest.fixture
    def gpu(self, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
        """A GPU that needs a second to flush its caches."""
        gpu = SimpleNamespace(now=0.0, flushes=0)

        def flush() -> None:
            gpu.now, gpu.flushes = gpu.now + 1, gpu.flushes + 1

        class Event:
            def __init__(self, enable_timing: bool) -> None:
                assert enable_timing

            def record(self) -> None:
                self.at = gpu.now

            def synchronize(self) -> None:
                pass

            def elapsed_time(self, other: Event) -> float:
                return 1000 * (other.at - self.at)

        buffer = SimpleNamespace(zero_=flush)
        monkeypatch.setattr(torch, "empty", lambda *_, device, **__: {"cuda": buffer}[device])
        monkeypatch.setattr(torch.cuda, "Event", Event)
        monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
        return gpu

    def test_work_before_a_run_does_not_count(
        self, load: Callable[[str], ModuleType], gpu: SimpleNamespace
    ) -> None:
        timing = load("timing")
        runs = []

        def run() -> None:
            gpu.now += 2
            runs.append(gpu.flushes)

        found = timing.gpu_times({"one": run, "two": run}, seconds=0.0, least=5)
        assert found == {name: timing.Times(2.0, 2.0, 2.0) for name in ("one", "two")}
        measured = runs[-10:]  # each with its caches flushed
        assert all(later > earlier for earlier, later in zip(measured, measured[1:], strict=False))

    def test_the_gpu_is_kept_busy_while_the_program_hands_over_a_run(
        self,
        load: Callable[[str], ModuleType],
        gpu: SimpleNamespace,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        timing = load("timing")
        clock = SimpleNamespace(now=0.0)
        monkeypatch.setattr(timing.time, "perf_counter", lambda: clock.now)
        monkeypatch.setattr(timing, "_seconds", lambda *_: 0.25)  # of a flush

        def run() -> None:
            clock.now += 1

        timing.gpu_times({"one": run}, seconds=0.0, least=3)
        assert gpu.flushes == 3 * (1 + 2 * 1 / 0.25)


class TestStep:
    def test_the_peak_is_not_reset_by_fairseqs_log(
        self, load: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        step = load("step")

        class Trainer:
            cuda_env: object | None = object()
            peak = 0

            def train_step(self, samples: list[Any]) -> None:
                self.peak = 7
                if self.cuda_env is not None:
                    self.peak = 0

        trainer = Trainer()

        def peak_memory(run: Callable[[], object], device: str) -> float:
            run()
            return trainer.peak

        monkeypatch.setattr(step, "peak_memory", peak_memory)
        assert step._peak_mib(trainer, {}, "cuda") == 7

    def test_a_step_that_overflows_is_never_the_fastest(
        self, load: Callable[[str], ModuleType]
    ) -> None:
        assert load("step")._step(SimpleNamespace(train_step=lambda _: None), {}, "cpu") == math.inf


class TestConv:
    def test_contenders_that_run_out_of_memory_are_named(
        self, load: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        conv = load("conv")

        def forward(*_: object) -> None:
            raise torch.OutOfMemoryError("CUDA out of memory")

        monkeypatch.setattr(conv, "unfolded", forward)
        monkeypatch.setitem(conv.LAYERS, "stage 1", (4, 4, 8, 3, 1))
        shape = {"layer": "stage 1", "batch": 2, "precision": "bfloat16"}
        row = conv.measure(shape, make_settings(load, device="cpu", quick=True))
        assert row["out_of_memory"] == ["unfold and product"]
        assert set(row["peak_mib"]) == set(row["forward"]) == {"ours", "no gate"}
        others = {"layer": "stage 2", "out_of_memory": []}
        everyone = {
            key: {**row[key], "unfold and product": row[key]["ours"]}
            for key in ("forward", "forward_backward", "peak_mib")
        }
        lines = conv.table([{**shape, **row}, {**shape, **row, **everyone, **others}])
        assert lines[-2].count("out of memory") == 3 and "out of memory" not in lines[-1]

    @pytest.mark.parametrize(("section", "rows"), [("conv", 10), ("images", 4)])
    def test_the_batch_of_a_gpu(
        self, load: Callable[[str], ModuleType], section: str, rows: int
    ) -> None:
        shapes = list(load(section).shapes(make_settings(load)))
        assert {shape["batch"] for shape in shapes} == {64}
        assert {shape["precision"] for shape in shapes} == {"float32", "bfloat16"}
        assert len(shapes) == rows


def test_the_table_has_the_share_of_a_copys_bandwidth(load: Callable[[str], ModuleType]) -> None:
    op = load("op")
    seconds = {op.BASE: 4e-5, op.OURS: 2e-5}
    forward = {name: {"median": s, "low": s, "high": s} for name, s in seconds.items()}
    row = {
        **{"time": 64, "batch": 1024, "kernel_size": 31, "precision": "bfloat16"},
        **{"method": "triton", "forward": forward, "forward_backward": forward},
        "peak_mib": dict.fromkeys(seconds, 1.0),
        "gpu": {
            "forward": {**forward, op.COPY: {"median": 1e-5, "low": 1e-5, "high": 1e-5}},
            "forward_backward": forward,
        },
    }
    lines = op.table([row])
    copied = 2 * 64 * 1024 * 512 * 2 / 1e-5 / 1e9
    assert f"| 0.50 | {copied:.0f} | 50% |" in lines[-1]
    assert any("no lightconv_cuda that works" in line for line in lines)
    forward[op.CUDA_KERNEL] = row["gpu"]["forward"][op.CUDA_KERNEL] = forward[op.BASE]
    row["peak_mib"][op.CUDA_KERNEL] = 1.0
    assert not any("no lightconv_cuda" in line for line in op.table([row]))


@pytest.mark.parametrize("works", [True, False])
def test_a_kernel_whose_output_stays_zero_is_left_out(
    load: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch, works: bool
) -> None:
    op = load("op")

    class Layer(op.LightweightConv1dTBC):  # type: ignore[name-defined,misc]
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert self.weight.shape == (2, 3)
            self.weight = torch.nn.Parameter(self.weight[:, None])
            return super().forward(x) * works

    name = "fairseq.modules.lightconv_layer"
    monkeypatch.setitem(sys.modules, name, SimpleNamespace(LightconvLayer=Layer))
    monkeypatch.setattr(torch.nn.Module, "cuda", lambda self: self)
    draw = torch.randn
    monkeypatch.setattr(torch, "randn", lambda *sizes, device: draw(*sizes))
    assert (op._fairseqs_kernel() is Layer) == works


def test_on_a_gpu_rows_exceed_the_caches_and_have_all_dtypes(
    load: Callable[[str], ModuleType],
) -> None:
    shapes = list(load("op").shapes(make_settings(load)))
    assert {shape["precision"] for shape in shapes} == {"float32", "bfloat16", "float16"}
    assert max(shape["time"] * shape["batch"] for shape in shapes) * 512 * 2 > 50 * 2**20
    assert len({tuple(shape.values()) for shape in shapes}) == len(shapes)


def test_one_batch_has_quartiles_too(load: Callable[[str], ModuleType]) -> None:
    timing = load("timing")
    assert timing.summary([2.0]) == timing.Times(2.0, 2.0, 2.0)
    assert timing.summary([1.0, 3.0]) == timing.Times(2.0, 1.5, 2.5)


def test_rows_of_one_precision_only(
    load: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, step = load("run"), load("step")
    monkeypatch.setattr(step, "measure", lambda shape, settings: {"measured": True})
    rows, whole = run.measure("step", make_settings(load, precision="bfloat16"), None)
    assert whole and {row["precision"] for row in rows} == {"bfloat16"}


def test_rows_measured_before_an_interruption_make_a_table(
    load: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run, step = load("run"), load("step")
    measured = []

    def measure(shape: dict[str, Any], settings: object) -> dict[str, Any]:
        if measured:
            raise KeyboardInterrupt
        measured.append(shape)
        return {"number": 1}

    shapes = [{"precision": "float32", "max_tokens": size} for size in (1, 2)]
    monkeypatch.setattr(step, "shapes", lambda settings: shapes)
    monkeypatch.setattr(step, "measure", measure)
    monkeypatch.setattr(step, "table", lambda rows: [f"a table of {len(rows)}"])
    monkeypatch.setattr(
        sys, "argv", ["run.py", "--sections", "step,decode", "--out", str(tmp_path)]
    )
    with pytest.raises(KeyboardInterrupt):
        run.main()
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "a table of 1" in text and "Beam search" not in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--checkpoint", "nowhere.pt", "--data", "here"], "--checkpoint nowhere.pt is no file"),
        (["--threads", "0"], "--threads is 0, but must be at least 1"),
        (["--seconds", "-1"], "--seconds is -1.0, but must be at least 0"),
    ],
)
def test_wrong_options_are_reported_first(
    load: Callable[[str], ModuleType],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    message: str,
) -> None:
    monkeypatch.setattr(sys, "argv", ["run.py", *words])
    with pytest.raises(UserError, match=message):
        load("run").main()
