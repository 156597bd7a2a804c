from __future__ import annotations

import pytest
import torch
from fairseq.modules import DynamicConv1dTBC, DynamicConv_scripatable
from small_models import TINY, build
from tools import TOLERANCE, gradients, padding_mask
from torch import Tensor, nn


def definition(conv: nn.Module, x: Tensor) -> Tensor:
    """Each position's own kernel, softmax over all K taps, on its last K inputs."""
    time, batch, channels = x.shape
    heads, taps = conv.num_heads, conv.kernel_size
    projected = conv.weight_linear(x)
    x, logits = projected.split(channels, 2) if conv.in_proj else (x, projected)
    kernel = logits.view(time, batch, heads, taps)
    if conv.weight_softmax:
        kernel = kernel.softmax(3)
    out = []
    for t in range(time):
        terms = [
            kernel[t, :, :, k].repeat_interleave(channels // heads, 1) * x[t + k - taps + 1]
            for k in range(taps)
            if t + k - taps + 1 >= 0
        ]
        out.append(torch.stack(terms).sum(0))
    return torch.stack(out)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("time", [1, 2, 4, 5, 7])
@pytest.mark.parametrize("softmax", [True, False])
@pytest.mark.parametrize("in_proj", [False, True])
@pytest.mark.parametrize("kind", [DynamicConv_scripatable, DynamicConv1dTBC])
def test_dynamic_convolution_is_its_definition_also_where_it_is_short(
    kind, in_proj, softmax, time, dtype
):
    # 6 channels and 6 kernel numbers with in_proj: split() halves what is projected.
    conv = kind(6, 3, padding_l=2, num_heads=2, weight_softmax=softmax, in_proj=in_proj).to(dtype)
    nn.init.normal_(conv.weight_linear.weight)
    x = torch.randn(time, 3, 6, dtype=dtype, requires_grad=True)
    options = {"unfold": True} if kind is DynamicConv1dTBC else {}
    tolerance = {"atol": 10 * TOLERANCE[dtype], "rtol": 0}
    got, want = conv(x, **options), definition(conv, x)
    torch.testing.assert_close(got, want, **tolerance)
    inputs = [x, *conv.weight_linear.parameters()]
    torch.testing.assert_close(gradients(got, inputs), gradients(want, inputs), **tolerance)
    state: dict[str, dict[str, Tensor | None]] = {}
    steps = [conv(x[t : t + 1], incremental_state=state, **options) for t in range(time)]
    torch.testing.assert_close(torch.cat(steps), want, **tolerance)


def test_dynamic_convolution_drops_connections_of_short_inputs():
    options = {"padding_l": 8, "num_heads": 2, "weight_softmax": True, "weight_dropout": 0.5}
    conv = DynamicConv_scripatable(8, 9, **options)
    x = torch.randn(3, 4000, 8)
    torch.testing.assert_close(conv(x).mean(1), definition(conv, x).mean(1), atol=0.05, rtol=0)
    assert not torch.equal(conv(x), conv(x))
    assert torch.equal(conv.eval()(x), conv(x))


def test_dynamic_convolution_can_be_scripted():
    conv = DynamicConv_scripatable(8, 5, padding_l=4, num_heads=2, weight_softmax=True)
    scripted, x = torch.jit.script(conv), torch.randn(7, 2, 8)
    for time in (2, 7):
        torch.testing.assert_close(scripted(x[:time]), conv(x[:time]))


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("time", [1, 2, 5, 9])
@pytest.mark.parametrize("arch", ["lightconv", "lightconv_cgc"])
def test_dynamic_decoder_scores_alike_in_training_and_in_generation(arch, time, side):
    options = ["--decoder-conv-type", "dynamic", "--encoder-layers", "2", "--decoder-layers", "2"]
    sizes = ["--encoder-kernel-size-list", "[3,7]", "--decoder-kernel-size-list", "[3,7]"]
    model = build(f"{arch}_iwslt_de_en", *options, *sizes, *TINY).double().eval()
    for parameter in model.decoder.layers.parameters():
        nn.init.normal_(parameter, std=0.5)
    source = torch.randint(4, 20, (2, 6)).masked_fill(padding_mask([4, 6], side), 1)
    target = torch.randint(4, 20, (2, time))
    encoded = model.encoder(source, torch.tensor([4, 6]))
    state: dict[str, dict[str, Tensor | None]] = {}
    steps = [
        model.decoder(target[:, : t + 1], encoder_out=encoded, incremental_state=state)[0]
        for t in range(time)
    ]
    at_once = model.decoder(target, encoder_out=encoded)[0]
    torch.testing.assert_close(torch.cat(steps, 1), at_once, atol=1e-9, rtol=0)
