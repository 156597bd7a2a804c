"""Kernels of one tap, which have no gate, and the constant gates that they used to have."""

import pytest
import torch
from tools import padding_mask
from torch import nn

from fairseq_cgc.core import CGLightConv, LightConv, UserError, reference
from fairseq_cgc.core.sentence_gate import make_sentence_gate


def old_conv(**options) -> CGLightConv:
    """A kernel of one tap with the gate that it used to have, its parameters at random."""
    conv = CGLightConv(6, 1, 3, **options).double()
    conv.gate = make_sentence_gate(3, 1, "latent").double()
    for parameter in conv.parameters():
        nn.init.normal_(parameter)
    nn.init.uniform_(conv.gate.in_norm.bias, 0.5, 1.0)  # which a ReLU follows
    return conv


@pytest.mark.parametrize("options", [{}, {"gate_target": "logits"}, {"gate_norm": "heads"}])
def test_one_tap_has_no_gate(options):
    conv = CGLightConv(6, 1, 3, **options)
    plain = LightConv(6, 1, 3)
    assert conv.state_dict().keys() == plain.state_dict().keys()
    plain.load_state_dict(conv.state_dict())
    x, mask = torch.randn(5, 2, 6), padding_mask([2, 5], "left")
    assert torch.equal(conv(x, mask), plain(x, mask))


@pytest.mark.parametrize("gate_target", ["kernel", "logits"])
def test_constant_gate_of_an_old_checkpoint_goes_into_the_weight(gate_target):
    options = {"gate_target": gate_target, "weight_softmax": False, "bias": True}
    old, new = old_conv(**options), CGLightConv(6, 1, 3, **options).double()
    state = old.state_dict()
    new.load_state_dict(state)
    assert set(state) == set(old.state_dict())  # which is left alone
    for lengths in ([2, 5], [5, 5]):
        x, mask = torch.randn(5, 2, 6, dtype=torch.float64), padding_mask(lengths, "left")
        want = reference.cg_light_conv(old, x, mask)
        got = new(x, mask).masked_fill(mask.t().unsqueeze(2), 0)
        torch.testing.assert_close(got, want)
    assert not torch.equal(new.weight, old.weight)


def test_constant_gate_before_a_softmax_does_not_matter():
    options = {"gate_target": "logits", "bias": True}
    old, new = old_conv(**options), CGLightConv(6, 1, 3, **options).double()
    new.load_state_dict(old.state_dict())
    x = torch.randn(5, 2, 6, dtype=torch.float64)
    torch.testing.assert_close(new(x), reference.cg_light_conv(old, x))


def test_gates_of_old_checkpoints_that_cannot_go_anywhere_are_refused():
    with pytest.raises(UserError, match="^gate is a constant that multiplies the output by 0"):
        CGLightConv(6, 1, 3).load_state_dict(old_conv().state_dict())
    conv = old_conv(gate_norm="heads")
    conv.gate = make_sentence_gate(3, 1, "heads")
    with pytest.raises(UserError, match="^gate is for a kernel of one tap with gate_norm 'heads'"):
        CGLightConv(6, 1, 3, gate_norm="heads").load_state_dict(conv.state_dict())
