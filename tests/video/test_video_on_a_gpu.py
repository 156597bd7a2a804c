"""Video models on a GPU against a CPU; each test runs on a CPU too."""

import copy

import pytest
import torch
from test_video_model import small_model

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    "name", ["tsn_cgc", "tsm_nonlocal_cgc", "p3d_nonlocal_cgc1d3d", "trn", "eco_cgc"]
)
def test_outputs_and_gradients(name, device):
    model = small_model(name, dropout=0.0).double()
    clips = torch.randn(2, 4, 3, 16, 16, dtype=torch.float64)
    found = []
    for place in (device, "cpu"):
        m = copy.deepcopy(model).to(place)
        torch.manual_seed(3)  # for the frames that TRN relates
        out = m(clips.to(place))
        grads = torch.autograd.grad(out.square().sum(), list(m.parameters()))
        found.append([tensor.cpu() for tensor in (out, *grads)])
    torch.testing.assert_close(*found, atol=1e-8, rtol=1e-6)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast(dtype, device):
    model = small_model("p3d_nonlocal_cgc1d3d").to(device)
    clips = torch.randn(2, 4, 3, 16, 16, device=device)
    with torch.autocast(device, dtype=dtype):
        out = model(clips)
    assert out.dtype == dtype
    out.float().square().sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())
