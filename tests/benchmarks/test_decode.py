"""The searches that benchmarks/decode.py compares do the same work."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import toy

NAMES = ("timing", "systems", "searches", "decode", "pictures")


@pytest.fixture
def decode(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(toy.ROOT / "benchmarks"))
    yield importlib.import_module("decode")
    for name in NAMES:
        sys.modules.pop(name, None)


def make_settings(**changes: Any) -> Any:
    values = {"device": "cpu", "quick": True, "precision": None, "seconds": 0.0}
    timing = sys.modules["timing"]
    return timing.Settings(**{**values, "checkpoint": None, "data": None, **changes})


def test_all_searches_take_the_forced_number_of_steps(decode, tmp_path):
    settings = make_settings()
    (sample, *_) = decode.batches(3, "tiny", unit="sentences")
    _, run = decode.contenders("tiny", settings)
    found = {name: contender.search(sample, 4) for name, contender in run.items()}
    for name, best in found.items():
        assert [len(tokens) for tokens in best] == [5] * 3, name  # the end is the fifth
    for name in ("fairseq, our decoder, float32", "ours, float32"):
        assert found[name] == found["fairseq, float32"]
    assert {"ours, bfloat16", "ours, int8"} < found.keys()
    weights = {name: contender.weights_mib for name, contender in run.items()}
    assert weights["ours, bfloat16"] == pytest.approx(weights["ours, float32"] / 2, rel=0.01)

    decode.QUICK["cpu"] = {(3, "sentences"): 2}
    (shape,) = decode.shapes(settings)
    row = {**shape, **decode.measure(shape, settings)}
    assert row["sentences"] == 6 and row["alike"]["ours, float32"] == 6
    assert all(len(seconds) == 2 for seconds in row["seconds"].values())
    text = "\n".join(decode.table([row]))
    assert "| 3 sentences | ours, int8 |" in text and "| 6 of 6 |" in text
    importlib.import_module("pictures").draw_decode([row], tmp_path)
    assert (tmp_path / "decode.png").stat().st_size > 5000


def test_a_trained_models_scores_stand_beside_those_of_float32(decode):
    row = {
        **{"model": "trained", "size": 4000, "unit": "tokens", "ctranslate2": None},
        **{"sentences": 3, "seconds": {"fairseq, float32": [2.0], "ours, int8": [0.5]}},
        "alike": {"fairseq, float32": 3, "ours, int8": 2},
        "weights_mib": {"fairseq, float32": 8.0, "ours, int8": 3.0},
        "peak_mib": {"fairseq, float32": 20.0, "ours, int8": 5.0},
    }
    score = {"bleu": 30.0, "chrf": 50.0, "signature": "nrefs:1", "same": 1.0}
    row["quality"] = {"float32": score, "int8": {**score, "bleu": 29.9, "same": 0.75}}
    lines = decode.table([row])
    assert "| 4,000 tokens | ours, int8 | 6.0 | 4.00 (4.00 to 4.00) | 2 of 3 | 3 | 5 |" in lines
    assert lines[-1] == "| int8 | 29.90 | -0.10 | 50.00 | +0.00 | 75.0% |"
    assert any(line.startswith("Without CTranslate2") for line in lines)
