"""A gate that is not the plain module is called, even where a fused kernel would compute it."""

import pytest
import torch
from tools import OpenGate
from torch import Tensor, nn
from torch.nn.modules import module as hooks
from torch.nn.utils import prune

from fairseq_cgc.core import CGLightConv, LightConv, lightconv

HOOKS = {
    "forward pre": lambda gate, hook: gate.register_forward_pre_hook(hook),
    "forward": lambda gate, hook: gate.register_forward_hook(hook),
    "backward": lambda gate, hook: gate.register_full_backward_hook(hook),
    "backward pre": lambda gate, hook: gate.register_full_backward_pre_hook(hook),
    "global forward pre": lambda _, hook: hooks.register_module_forward_pre_hook(hook),
    "global forward": lambda _, hook: hooks.register_module_forward_hook(hook),
    "global backward": lambda _, hook: hooks.register_module_full_backward_hook(hook),
    "global backward pre": lambda _, hook: hooks.register_module_full_backward_pre_hook(hook),
}
CHANGES = {
    "another module": lambda conv: setattr(conv, "gate", OpenGate()),
    "another forward": lambda conv: setattr(conv.gate, "forward", OpenGate().forward),
    "another norm": lambda conv: setattr(conv.gate, "in_norm", nn.Identity()),
    "pruned": lambda conv: prune.l1_unstructured(conv.gate, "encoder", 0.5),
    "weight norm": lambda conv: nn.utils.parametrizations.weight_norm(conv.gate, "encoder"),
}


@pytest.fixture
def fused(monkeypatch) -> list[int]:
    """Calls of the fused kernel, as if there were a GPU."""
    calls = []

    def cg_light_conv(x: Tensor, *_: object, **__: object) -> Tensor:
        calls.append(len(x))
        return x

    monkeypatch.setattr(lightconv, "choose_method", lambda *_: "triton")
    monkeypatch.setattr(lightconv.kernels, "cg_light_conv", cg_light_conv)
    CGLightConv(8, 7, 2)(torch.ones(4, 1, 8))
    assert calls == [4]
    return calls


@pytest.mark.parametrize("kind", HOOKS)
def test_hooks_on_the_gate_are_called_where_a_kernel_is_fused(kind, fused):
    conv, seen = CGLightConv(8, 7, 2), []

    def hook(module: nn.Module, *_: object) -> None:
        seen.append(module)

    handle = HOOKS[kind](conv.gate, hook)
    try:
        conv(torch.randn(5, 2, 8, requires_grad=True)).sum().backward()
    finally:
        handle.remove()
    assert conv.gate in seen
    conv(torch.randn(6, 2, 8))
    assert fused == [4, 6]


@pytest.mark.parametrize("change", CHANGES)
def test_changed_gates_are_called_where_a_kernel_is_fused(change, fused):
    conv, x = CGLightConv(8, 7, 2), torch.randn(30, 2, 8)
    before = LightConv._convolve(conv, x, None)
    CHANGES[change](conv)
    if change == "weight norm":
        conv.gate.parametrizations.encoder.original0.data.mul_(2)
    assert not torch.allclose(conv(x), before)
    assert fused == [4]
