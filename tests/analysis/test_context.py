"""What context is worth: losses held against fairseq's model, and gates that were replaced."""

from __future__ import annotations

import math

import pytest
import torch
from beam_search import LENGTHS, lively, without_fairseq
from torch import Tensor

from fairseq_cgc.analysis.context import (
    Pair,
    _increase,
    measure_context,
    replace_gates,
    sentences_of_equal_length,
    target_losses,
)
from fairseq_cgc.analysis.context_figure import draw_context
from fairseq_cgc.analysis.gates import record_gates
from fairseq_cgc.core import UserError

SOURCE_GATED = ("--decoder-gate", "source")
EOS, PAD = 2, 1


def pairs(seed: int = 3) -> list[Pair]:
    """Sources of LENGTHS and shorter targets, each with its end, the shortest source first."""
    torch.manual_seed(seed)
    sides = [(torch.randint(4, 30, (n,)), torch.randint(4, 20, (n // 2,))) for n in sorted(LENGTHS)]
    end = torch.tensor([EOS])
    return [(torch.cat([source, end]), torch.cat([target, end])) for source, target in sides]


def loss_of_fairseq(model: torch.nn.Module, source: Tensor, target: Tensor) -> float:
    """In bits, from the model that trains, of one sentence without padding."""
    inputs = torch.cat([torch.tensor([EOS]), target[:-1]]).unsqueeze(0)
    with torch.inference_mode():
        out = model(source.unsqueeze(0), torch.tensor([len(source)]), inputs)[0][0]
    logs = out.log_softmax(-1)
    return -float(logs[range(len(target)), target].sum()) / math.log(2)


@pytest.mark.parametrize("arguments", [(), SOURCE_GATED, ("--encoder-gate-norm", "heads")])
def test_losses_are_those_of_the_model_that_trains(arguments):
    model = lively(*arguments)
    found = target_losses(without_fairseq(model, *arguments), pairs())
    wanted = [loss_of_fairseq(model, source, target) for source, target in pairs()]
    assert found.tolist() == pytest.approx(wanted, rel=1e-5)


def test_own_gates_put_in_change_nothing_and_others_do():
    model = without_fairseq(lively(*SOURCE_GATED), *SOURCE_GATED)
    with record_gates(model) as recorded:
        own = target_losses(model, pairs())
    assert set(recorded) == {f"{s}.layers.{n}.conv" for s in ("encoder", "decoder") for n in (0, 1)}
    gates = {name: found[0] for name, found in recorded.items()}
    with replace_gates(model, gates):
        torch.testing.assert_close(target_losses(model, pairs()), own, rtol=1e-6, atol=1e-5)
    for name, gate in gates.items():
        with replace_gates(model, {name: gate.flip(2)}):
            assert (target_losses(model, pairs()) - own).abs().min() > 1e-4, name
    assert torch.equal(target_losses(model, pairs()), own)  # the hooks are gone


@pytest.mark.parametrize("batches", [[[0, 1, 2, 3, 4, 5]], [[0], [1, 2], [3, 4, 5]]])
def test_increases_are_those_of_gates_replaced_one_by_one(batches):
    model, data = without_fairseq(lively(*SOURCE_GATED), *SOURCE_GATED), pairs()
    found = measure_context(model, data, batches)
    own, gates = [], []
    for pair in data:
        with record_gates(model) as recorded:
            own.append(target_losses(model, [pair]))
        gates.append({name: of_layer[0] for name, of_layer in recorded.items()})
    subwords = sum(len(target) for _, target in data)
    assert (found.sentences, found.subwords) == (6, subwords)
    assert found.nll == pytest.approx(float(sum(own)) / subwords, rel=1e-5)
    others = {"mean": None, "same length": sentences_of_equal_length(torch.tensor(sorted(LENGTHS)))}
    for kind, places in others.items():
        assert list(found.increases[kind]) == ["all", *gates[0]]
        for layer, increase in found.increases[kind].items():
            names = list(gates[0]) if layer == "all" else [layer]
            wanted = 0.0
            for number, pair in enumerate(data):
                theirs = {
                    name: torch.cat([of_one[name] for of_one in gates]).mean(0, keepdim=True)
                    if places is None
                    else gates[int(places[number])][name]
                    for name in names
                }
                with replace_gates(model, theirs):
                    wanted += float(target_losses(model, [pair]) - own[number])
            assert increase.mean == pytest.approx(wanted / subwords, abs=1e-5)
            assert increase.error > 0


def test_a_constant_gate_carries_no_context():
    model = without_fairseq(lively())
    for layer in model.encoder.layers:
        layer.conv.gate.in_decoder.zero_()
    found = measure_context(model, pairs(), [list(range(6))])
    for of_layers in found.increases.values():
        assert all(abs(i.mean) < 1e-6 and i.error < 1e-6 for i in of_layers.values())


def test_another_sentence_has_the_same_length_or_the_nearest():
    lengths = torch.tensor([2, 4, 4, 4, 7, 9, 9, 10])
    places = sentences_of_equal_length(lengths)
    assert places.tolist() == [1, 3, 1, 2, 5, 6, 5, 6]


def test_the_interval_of_an_increase():
    mean, error = _increase(torch.tensor([1.0, 3.0, 2.0, 2.0], dtype=torch.float64), 16)
    assert mean == 0.5
    # The standard error of the sum of four is sqrt(4) times their standard deviation.
    assert error == pytest.approx(1.96 * 2 * math.sqrt(2 / 3) / 16)


def test_what_cannot_be_measured_is_told():
    with pytest.raises(UserError, match="the number of sentences is 1, but must be at least 2"):
        measure_context(without_fairseq(lively()), pairs(), [[0]])
    plain = ("--encoder-gate-target", "none")
    with pytest.raises(UserError, match="the model has no gates"):
        measure_context(without_fairseq(lively(*plain), *plain), pairs(), [[0, 1]])


def test_the_figure_names_the_layers(tmp_path):
    model = without_fairseq(lively(*SOURCE_GATED), *SOURCE_GATED)
    draw_context(measure_context(model, pairs(), [list(range(6))]), tmp_path / "context.svg")
    text = (tmp_path / "context.svg").read_text(encoding="utf-8")
    for words in ("all layers", "encoder layer 1 (K = 3)", "decoder layer 2 (K = 7)", "mean gates"):
        assert words in text
