from __future__ import annotations

from typing import Any

import pytest
import torch
from beam_search import hypotheses, lively
from fairseq.dataclass.configs import FairseqConfig
from torch import nn

from fairseq_cgc.core import UserError
from fairseq_cgc.models.precision import VARIABLE, set_precision


def best_scores(model: nn.Module) -> torch.Tensor:
    return torch.stack([found[0]["score"] for found in hypotheses([model])])


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_fewer_bits_change_little_and_something(precision):
    model, exact = lively(), best_scores(lively())
    set_precision(model, precision)
    got = best_scores(model)
    torch.testing.assert_close(got, exact, atol=0.1, rtol=0.1)
    assert not torch.allclose(got, exact, atol=1e-6)


def test_float32_changes_nothing():
    model = lively()
    set_precision(model, "float32")
    assert torch.equal(best_scores(model), best_scores(lively()))


def test_references_are_scored_with_8_bits():
    model = lively()
    batch = (torch.randint(4, 30, (2, 5)), torch.tensor([5, 5]), torch.randint(4, 20, (2, 6)))
    with torch.no_grad():
        want = model(*batch)[0].log_softmax(-1)
        set_precision(model, "int8")
        torch.testing.assert_close(model(*batch)[0].log_softmax(-1), want, atol=0.3, rtol=0.1)


def kinds(model: nn.Module) -> tuple[str, torch.dtype]:
    return type(model.decoder.layers[0].fc1).__module__, next(model.parameters()).dtype


@pytest.mark.parametrize(
    ("value", "linear", "dtype"),
    [
        (None, "torch.nn.modules", torch.float32),
        ("float32", "torch.nn.modules", torch.float32),
        ("bfloat16", "torch.nn.modules", torch.bfloat16),
        ("int8", "torch.ao.nn.quantized.dynamic", torch.float32),
    ],
)
def test_fairseqs_commands_ask_the_environment(value, linear, dtype, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    if value is not None:
        monkeypatch.setenv(VARIABLE, value)
    model: Any = lively()
    model.prepare_for_inference_(FairseqConfig())
    module, found = kinds(model)
    assert module.startswith(linear) and found == dtype


def test_unknown_precision_is_told(monkeypatch):
    monkeypatch.setenv(VARIABLE, "int4")
    with pytest.raises(UserError, match=f"{VARIABLE} is 'int4', but must be one of float32, bf"):
        lively().prepare_for_inference_(FairseqConfig())


def test_int8_where_it_does_not_run_is_told(monkeypatch):
    model = nn.Linear(2, 2, device="meta")
    with pytest.raises(UserError, match="int8 is for CPUs only"):
        set_precision(model, "int8")

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("Didn't find engine\nmore")

    monkeypatch.setattr(torch.ao.quantization, "quantize_dynamic", fail)
    with pytest.raises(
        UserError, match="does not work with this torch or CPU: Didn't find engine$"
    ):
        set_precision(nn.Linear(2, 2), "int8")
