from __future__ import annotations

import torch

from fairseq_cgc.analysis.cam import grad_cam_plus_plus, relative


def test_equals_the_definition_with_derivatives_of_a_linear_network():
    """Equation 19 of Grad-CAM++ with second and third derivatives of Y = exp(S) by autograd."""
    torch.manual_seed(3)
    maps = torch.rand(2, 3, 2, 4, dtype=torch.float64)
    readout = torch.randn(3, 2, 4, dtype=torch.float64) / 4  # S = sum of readout * A
    gradients = readout.expand(2, -1, -1, -1)
    found = grad_cam_plus_plus(maps, gradients)
    for sample in range(2):
        a = maps[sample].clone().requires_grad_()
        y = (readout * a).sum().exp()
        (first,) = torch.autograd.grad(y, a, create_graph=True)
        heat = torch.zeros(2, 4, dtype=torch.float64)
        for k in range(3):
            weight = torch.zeros((), dtype=torch.float64)
            for i in range(2):
                for j in range(4):
                    (d2,) = torch.autograd.grad(first[k, i, j], a, create_graph=True)
                    (d3,) = torch.autograd.grad(d2[k, i, j], a, retain_graph=True)
                    second, third = d2[k, i, j].detach(), d3[k, i, j]
                    alpha = second / (2 * second + maps[sample, k].sum() * third)
                    weight += alpha * first[k, i, j].detach().clamp(min=0)
            heat += weight * maps[sample, k]
        heat = heat.clamp(min=0) / y.detach()  # exp(S) is left out
        torch.testing.assert_close(found[sample], heat, rtol=1e-10, atol=1e-12)
    assert found.max() > 0


def test_without_a_positive_gradient_the_map_is_zero():
    maps = torch.rand(1, 2, 3, 3)
    assert not grad_cam_plus_plus(maps, -torch.rand(1, 2, 3, 3)).any()
    assert not grad_cam_plus_plus(maps, torch.zeros(1, 2, 3, 3)).any()


def test_signed_maps_stay_finite():
    maps = torch.full((1, 1, 2, 2), -1.0)
    maps[0, 0, 0, 0] = 1.0  # 2 + sum(A) g would be zero
    found = grad_cam_plus_plus(maps, torch.ones(1, 1, 2, 2))
    assert found[0].tolist() == [[2.0, 0.0], [0.0, 0.0]]


def test_relative_to_each_maximum():
    maps = torch.tensor([[[1.0, 4.0]], [[0.0, 0.0]], [[8.0, 2.0]]])
    assert relative(maps).tolist() == [[[0.25, 1.0]], [[0.0, 0.0]], [[1.0, 0.25]]]
