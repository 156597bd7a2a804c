import pytest
import torch
from torch import nn
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx

from fairseq_cgc.core.plain import FORCE, must_be_plain


class Layer(nn.Module):
    """One value by the plain path, another by the fast one."""

    def __init__(self, **options):
        super().__init__()
        self.options = options

    def forward(self, x):
        return x.cos() if must_be_plain(x, **self.options) else x.sin()


def by_forward_ad(layer, x):
    with forward_ad.dual_level():
        return forward_ad.unpack_dual(layer(forward_ad.make_dual(x, x))).primal


def compiled(function):
    torch._dynamo.reset()
    return torch.compile(function, backend="eager", fullgraph=True)


TRANSFORMS = {
    "jvp": lambda layer, x: torch.func.jvp(layer, (x,), (x,))[0],
    "vmap": lambda layer, x: torch.func.vmap(layer)(x),
    "vjp": lambda layer, x: torch.func.vjp(layer, x)[0],
    "forward_ad": by_forward_ad,
}
TRACERS = {
    "jit": lambda layer, x: torch.jit.trace(layer, (x,), check_trace=False)(x),
    "fx": lambda layer, x: torch.fx.symbolic_trace(layer)(x),
    "make_fx": lambda layer, x: make_fx(layer, tracing_mode="symbolic")(x)(x),
    "export": lambda layer, x: torch.export.export(layer, (x,)).module()(x),
    "strict export": lambda layer, x: torch.export.export(layer, (x,), strict=True).module()(x),
}


def test_plain_only_where_asked_for(monkeypatch):
    x = torch.randn(3)
    monkeypatch.delenv(FORCE, raising=False)
    assert torch.equal(Layer()(x), x.sin())
    assert torch.equal(Layer(asked=True)(x), x.cos())
    for value in ("", "0", "1"):
        monkeypatch.setenv(FORCE, value)
        assert torch.equal(Layer()(x), x.cos() if value == "1" else x.sin())


@pytest.mark.parametrize("how", [*TRANSFORMS, *TRACERS])
def test_plain_where_something_transforms_or_records(how):
    x = torch.randn(3)
    got = (TRANSFORMS | TRACERS)[how](Layer(), x)
    torch.testing.assert_close(got, x.cos())
    assert torch.equal(Layer()(x), x.sin())  # and no longer after it


@pytest.mark.parametrize("how", TRANSFORMS)
def test_plain_under_transforms_that_are_compiled(how):
    x = torch.randn(3)
    got = compiled(lambda x: TRANSFORMS[how](Layer(), x))(x)
    torch.testing.assert_close(got, x.cos())


def test_compiled_as_one_graph():
    x, layer = torch.randn(3), Layer()
    function = compiled(layer)
    torch.testing.assert_close(function(x), x.sin())
    torch.testing.assert_close(by_forward_ad(function, x), x.cos())  # compiled again
    torch.testing.assert_close(function(x), x.sin())
    torch.testing.assert_close(compiled(Layer(compiles=False))(x), x.cos())
