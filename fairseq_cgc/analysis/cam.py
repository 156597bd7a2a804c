"""Grad-CAM++ heat maps before and after a convolution, and of its gate's context (Fig. 4).

The paper does not say how it shows the context. Here it is Grad-CAM++ of the pooled grid that the
gate encodes, with gradients through the gate alone: it shows the regions whose content opens or
closes weights in favour of the class.

Of a video model, a clip's maps have a frame for each frame of the layer's features. The channels'
weights are those of the whole clip: sums over positions are sums over frames, too.

Shape letters: B batch, C channels, T frames, H x W a feature map's size.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fairseq_cgc.analysis.layers import GATED, find_layer
from fairseq_cgc.core import ContextGate, UserError
from fairseq_cgc.video.layers import TemporalConv

BEFORE, CONTEXT, AFTER = "before", "context", "after"


def grad_cam_plus_plus(maps: Tensor, gradients: Tensor) -> Tensor:
    """The heat map L of each sample, without the factor exp(S).

    Args:
        maps: A, B x C x H x W or B x C x T x H x W. Where maps are signed (an image before the
            stem), a negative sum counts as zero, because the weights would otherwise have any size
            and sign.
        gradients: g, of the same shape.

    Returns:
        B x H x W or B x T x H x W, not negative.
    """
    positions = tuple(range(2, maps.dim()))
    total = maps.sum(positions, keepdim=True).clamp(min=0)
    rising = gradients.clamp(min=0)
    # Where g is positive, a = 1 / (2 + total g); elsewhere the factor relu(g) is zero.
    weights = (rising / (2 + total * rising)).sum(positions, keepdim=True)
    return (weights * maps).sum(1).clamp(min=0)


def relative(maps: Tensor) -> Tensor:
    """Divide each map, B x (T x) H x W, by its maximum; a map of zeros stays as it is."""
    largest = maps.amax(tuple(range(1, maps.dim())), keepdim=True)
    return torch.where(largest > 0, maps / largest, maps)


@dataclass(frozen=True)
class HeatMaps:
    """What a layer attends to for a class of each image or clip.

    Attributes:
        layer: its name.
        classes: B, the class that is explained for each sample.
        logits: B x classes.
        maps: ``before``, ``context`` (gated layers only) and ``after``, in this order. Each is
            B x H x W, for clips B x T x H x W, from 0 to 1, relative to each sample's maximum.
    """

    layer: str
    classes: Tensor
    logits: Tensor
    maps: dict[str, Tensor]


def heat_maps(
    model: nn.Module, layer: str | None, images: Tensor, classes: Tensor | None = None
) -> HeatMaps:
    """Run a model forward and backward, and compute the heat maps of a layer.

    ``before`` is the layer's input. ``after`` is the output of the first ReLU module that runs
    after the layer (normalisation, and at the end of a block the shortcut, come in between), or
    the layer's own output if there is none. Of a temporal layer, both are those of the whole
    :class:`TemporalConv`, which ends in a ReLU.

    Args:
        model: left in evaluation mode.
        layer: name of a 2-D or 3-D convolution; ``None`` for the default of :func:`find_layer`.
        images: B x channels x height x width, standardised, on the model's device; or clips,
            B x T x channels x height x width.
        classes: B, whose scores to explain; by default those with the highest score.

    Raises:
        UserError: if there is no such layer, or it does not run.
    """
    name, conv = find_layer(model, layer, (nn.Conv2d, nn.Conv3d))
    model.eval()
    around = model.get_submodule(name.rpartition(".")[0])
    is_temporal = isinstance(around, TemporalConv)
    with (
        torch.enable_grad(),
        _capture(model, conv, around if is_temporal else conv) as captured,
    ):
        logits = model(images.detach().requires_grad_())
        if BEFORE not in captured:
            raise UserError(
                f"{name} does not take part in the model's output: give another --layer"
            )
        classes = logits.argmax(1) if classes is None else classes.to(logits.device)
        score = logits.gather(1, classes.unsqueeze(1)).sum()  # samples do not mix: one sum for all
        tensors = {key: captured[key] for key in (BEFORE, CONTEXT, AFTER) if key in captured}
        gradients = torch.autograd.grad(
            score, list(tensors.values()), allow_unused=True, materialize_grads=True
        )
    clips = len(images) if images.dim() == 5 else None
    maps = {}
    for (key, tensor), gradient in zip(tensors.items(), gradients, strict=True):
        # The gate of a temporal layer sees no space: its grid is B x C x T x 1.
        a, g = (
            part.float().unsqueeze(4) if is_temporal and key == CONTEXT else _by_clip(part, clips)
            for part in (tensor.detach(), gradient)
        )
        maps[key] = relative(grad_cam_plus_plus(a, g)).cpu()
    return HeatMaps(name, classes.cpu(), logits.detach().float().cpu(), maps)


def _by_clip(maps: Tensor, clips: int | None) -> Tensor:
    """In float32; the frames of all clips, BT x C x H x W, to B x C x T x H x W."""
    if clips is None or maps.dim() == 5:
        return maps.float()
    return maps.float().unflatten(0, (clips, -1)).transpose(1, 2)


@contextmanager
def _capture(model: nn.Module, conv: nn.Module, around: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Collect the tensors during a forward pass, as parts of its graph.

    Args:
        model: that will run.
        conv: the convolution, with the gate.
        around: the module whose input and output count, which ends in a ReLU if it is not ``conv``.
    """
    captured: dict[str, Tensor] = {}
    is_behind = False

    def before(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        captured[BEFORE] = inputs[0]

    def after(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal is_behind
        captured[AFTER], is_behind = output, around is conv

    def rectified(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal is_behind
        if is_behind:
            captured[AFTER], is_behind = output, False

    def pool_before(gate: ContextGate, inputs: tuple[Tensor, ...]) -> Tensor:
        # The grid is a tensor of its own, never the input itself, whose gradients would be those
        # of the convolution too.
        captured[CONTEXT] = gate.pool(inputs[0])
        return captured[CONTEXT]

    with ExitStack() as hooks:
        hooks.enter_context(around.register_forward_pre_hook(before))
        hooks.enter_context(around.register_forward_hook(after))
        for module in model.modules():
            if isinstance(module, nn.ReLU):
                hooks.enter_context(module.register_forward_hook(rectified))
        if isinstance(conv, GATED):
            hooks.enter_context(conv.gate.register_forward_pre_hook(pool_before))
        yield captured
