from __future__ import annotations

import pytest
import torch
from fairseq.modules.lightweight_convolution import LightweightConv1dTBC

from fairseq_cgc.models.convolutions import DecoderLightConv


@pytest.mark.parametrize("time", [1, 3, 20, 120])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("softmax", [True, False])
@pytest.mark.usefixtures("torchs_dropout")
def test_all_positions_at_once_equal_fairseq(time, bias, softmax):
    """Teacher forcing: outputs, gradients, and below 96 positions the dropped connections too."""
    options = {"padding_l": 6, "num_heads": 2, "weight_softmax": softmax, "bias": bias}
    dropout = 0.3 if time < 96 else 0.0
    theirs = LightweightConv1dTBC(8, 7, weight_dropout=dropout, **options).train()
    ours = DecoderLightConv(8, 7, weight_dropout=dropout, **options).train()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(time, 3, 8, requires_grad=True)
    found = []
    for module in (ours, theirs):
        torch.manual_seed(3)
        out = module(x)
        grad = torch.autograd.grad(out.square().sum(), [x, *module.parameters()])
        found.append([out, *grad])
    torch.testing.assert_close(found[0], found[1], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_word_by_word_by_itself_it_is_fairseqs():
    theirs = LightweightConv1dTBC(6, 3, padding_l=2, num_heads=2, bias=True).eval()
    ours = DecoderLightConv(6, 3, padding_l=2, num_heads=2, bias=True).eval()
    ours.load_state_dict(theirs.state_dict())
    states: tuple[dict, dict] = ({}, {})
    for rows, order in ((4, [1, 1, 0]), (3, [2, 0, 1, 1]), (4, [0, 1, 2, 3])):
        x = torch.randn(1, rows, 6)
        found = [
            conv(x, incremental_state=s) for conv, s in zip((ours, theirs), states, strict=True)
        ]
        torch.testing.assert_close(*found)
        for conv, state in zip((ours, theirs), states, strict=True):
            conv.reorder_incremental_state(state, torch.tensor(order))
    x = torch.randn(7, 4, 6)
    torch.testing.assert_close(ours(x, unfold=True), theirs(x, unfold=True))
