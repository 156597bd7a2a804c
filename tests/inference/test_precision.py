from __future__ import annotations

from typing import Any

import pytest
import torch
from beam_search import hypotheses, lively
from fairseq.dataclass.configs import FairseqConfig
from torch import Tensor, nn

from fairseq_cgc.core import UserError
from fairseq_cgc.inference import precision
from fairseq_cgc.inference.precision import VARIABLE, Int8Linear, set_precision


def best_scores(model: nn.Module) -> torch.Tensor:
    return torch.stack([found[0]["score"] for found in hypotheses([model])])


@pytest.mark.parametrize("name", ["bfloat16", "int8"])
def test_fewer_bits_change_little_and_something(name):
    model, exact = lively(), best_scores(lively())
    set_precision(model, name)
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
        ("int8", "fairseq_cgc.inference.precision", torch.float32),
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


def test_int8_needs_a_cpu():
    with pytest.raises(UserError, match="int8 is for CPUs only"):
        set_precision(nn.Linear(2, 2, device="meta"), "int8")


def reference(linear: nn.Linear, x: Tensor) -> Tensor:
    """What an int8 layer computes, one row and one output at a time."""
    rows = []
    for row in x.reshape(-1, x.shape[-1]):
        row_scale = row.abs().max() / 127
        numbers = (row / row_scale).round() if row_scale > 0 else torch.zeros_like(row)
        outputs = []
        for weight in linear.weight:
            scale = weight.abs().max() / 127
            outputs.append((numbers @ (weight / scale).round()) * row_scale * scale)
        rows.append(torch.stack(outputs))
    out = torch.stack(rows).view(*x.shape[:-1], -1)
    return out if linear.bias is None else out + linear.bias


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [(1,), (5,), (2, 3), (33,)])
@torch.no_grad()
def test_int8_layer_is_its_definition(rows, bias):
    linear, x = nn.Linear(24, 10, bias=bias), torch.randn(*rows, 24)
    x[0] = 0
    torch.testing.assert_close(Int8Linear.of(linear)(x), reference(linear, x), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_int8_layer_is_near_the_layer_it_replaces():
    linear, x = nn.Linear(512, 300), torch.randn(40, 512)
    want = linear(x)
    assert (Int8Linear.of(linear)(x) - want).norm() < 0.01 * want.norm()
    assert (Int8Linear.of(linear).weight - linear.weight).abs().max() < 2e-4


@torch.no_grad()
def test_int8_rows_do_not_depend_on_the_other_rows():
    layer, x = Int8Linear.of(nn.Linear(64, 40)), torch.randn(17, 64)
    alone = torch.cat([layer(row.unsqueeze(0)) for row in x])
    assert torch.equal(alone, layer(x * 1)) and torch.equal(alone[3:5], layer(x[3:5]))
    x[0] *= 1e6  # a scale for the whole batch would leave nothing of the others
    assert torch.equal(alone[1:], layer(x)[1:])


@torch.no_grad()
def test_int8_layer_takes_no_rows_and_keeps_nan():
    layer = Int8Linear.of(nn.Linear(8, 4))
    assert layer(torch.empty(3, 0, 8)).shape == (3, 0, 4)
    x = torch.ones(2, 8)
    x[0, 0] = float("nan")
    out = layer(x)
    assert out[0].isnan().all() and not out[1].isnan().any()


@torch.no_grad()
def test_int8_without_torchs_product_is_the_same_and_warns(monkeypatch, caplog):
    layer, x = Int8Linear.of(nn.Linear(2000, 6)), torch.randn(9, 2000)
    want = layer(x)

    def fail(*_: object) -> Tensor:
        raise RuntimeError("not built")

    monkeypatch.setattr(torch, "_int_mm", fail)
    precision._has_int8_matmul.cache_clear()
    with caplog.at_level("WARNING"):
        assert torch.equal(layer(x), want)
    precision._has_int8_matmul.cache_clear()
    assert "int8 saves memory, not time" in caplog.text
