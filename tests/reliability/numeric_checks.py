"""What must hold of the numbers: finite for extreme input, the same in every batch."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import torch
from fairseq.data import Dictionary
from torch import Tensor, nn

from fairseq_cgc.core import (
    GATE_NORMS,
    GATE_TARGETS,
    CGConv1d,
    CGConv2d,
    CGConv3d,
    CGLightConv,
    ContextGate,
    LightConv,
)
from fairseq_cgc.models.config import (
    LightConvCGCConfig,
    architecture_values,
    resolve,
)
from fairseq_cgc.models.lightconv_cgc import LightConvCGCEncoder

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
#: The largest number of float16 is 65,504.
LARGE = 1e4
CHANNELS, HEADS, KERNEL = 16, 4, 7


def values(kind: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Extreme input of a shape, in float32.

    Args:
        kind: one of :data:`KINDS`.
        shape: of the result.
        generator: for random numbers.
    """
    noise = torch.randn(shape, generator=generator)
    if kind == "zero":
        return torch.zeros(shape)
    if kind == "all equal":
        return torch.full(shape, 3.0)
    if kind == "all equal, large":
        return torch.full(shape, LARGE)
    if kind == "large":
        return (noise * LARGE).clamp(-6 * LARGE, 6 * LARGE)
    if kind == "tiny":
        return noise * 1e-7
    if kind == "one large":
        single = torch.zeros(shape)
        single.view(-1)[0] = 6 * LARGE
        return single
    assert kind == "constant and noise", kind
    return noise * 1e-3 + LARGE


KINDS = (
    *("zero", "all equal", "all equal, large", "large", "tiny", "one large"),
    "constant and noise",
)
SIDES = ("none", "left", "right", "all but one")


def padding(side: str, time: int) -> Tensor | None:
    """B x T, True at padding, of three sentences: whole, half and one word (or one word each)."""
    if side == "none":
        return None
    lengths = torch.tensor([1, 1, 1] if side == "all but one" else [time, max(1, time // 2), 1])
    position = torch.arange(time).expand(3, -1)
    if side == "left":
        return position < time - lengths.unsqueeze(1)
    return position >= lengths.unsqueeze(1)


def finite(outputs: Tensor, inputs: list[Tensor]) -> bool:
    """Whether outputs and the gradients of their mean are finite."""
    gradients = torch.autograd.grad(outputs.float().mean(), inputs, allow_unused=True)
    found = [outputs, *(g for g in gradients if g is not None)]
    return all(bool(tensor.isfinite().all()) for tensor in found)


def sentence_modules() -> dict[str, Callable[[], nn.Module]]:
    """Modules for T x B x C with a padding mask."""
    return {
        "CGLightConv kernel": lambda: CGLightConv(CHANNELS, KERNEL, HEADS),
        "CGLightConv logits": lambda: CGLightConv(CHANNELS, KERNEL, HEADS, gate_target="logits"),
        "CGLightConv heads": lambda: CGLightConv(CHANNELS, KERNEL, HEADS, gate_norm="heads"),
        "LightConv": lambda: LightConv(CHANNELS, KERNEL, HEADS),
    }


def image_modules() -> dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]]:
    """Modules for B x c x spatial, and the shape of an input."""
    return {
        "ContextGate": (lambda: ContextGate(8, 8, (3, 3)), (2, 8, 6, 6)),
        "ContextGate layer": (lambda: ContextGate(8, 8, (3, 3), norm="layer"), (2, 8, 6, 6)),
        "ContextGate product": (lambda: ContextGate(8, 8, 3, combine="product"), (2, 8, 9)),
        "CGConv1d": (lambda: CGConv1d(8, 8, 5, padding=2), (3, 8, 20)),
        "CGConv2d": (lambda: CGConv2d(8, 16, 3, padding=1), (2, 8, 9, 7)),
        "CGConv3d": (lambda: CGConv3d(8, 8, 3, padding=1), (2, 8, 4, 5, 6)),
    }


def extreme_cases() -> Iterator[tuple[str, Callable[[], bool]]]:
    """Name of each extreme case, and what says whether its numbers stay finite."""
    for dtype in DTYPES:
        short = str(dtype).removeprefix("torch.")
        for kind in KINDS:
            for name, make in sentence_modules().items():
                for side in SIDES:
                    for time in (1, 20, 130):
                        label = f"{name}, {short}, {kind}, padding {side}, {time} positions"
                        yield label, _sentence_case(make, dtype, kind, side, time)
            for name, (make, shape) in image_modules().items():
                for training in (True, False):
                    mode = "training" if training else "evaluation"
                    yield (
                        f"{name}, {short}, {kind}, {mode}",
                        _image_case(make, dtype, kind, shape, training),
                    )
        for scale in (0.0, 1.0, LARGE):
            for side in SIDES[1:]:
                yield (
                    f"encoder, {short}, embeddings times {scale}, padding {side}",
                    _encoder_case(dtype, scale, side),
                )


def _sentence_case(
    make: Callable[[], nn.Module], dtype: torch.dtype, kind: str, side: str, time: int
) -> Callable[[], bool]:
    def check() -> bool:
        torch.manual_seed(1)
        module = make().to(dtype)
        generator = torch.Generator().manual_seed(2)
        x = values(kind, (time, 3, CHANNELS), generator).to(dtype)
        mask = padding(side, time)
        if mask is not None:
            x[mask.t()] = float("inf")  # what stands there must not matter
        x.requires_grad_()
        out = module(x, mask)
        if mask is not None:
            out = out[~mask.t()]
        return finite(out, [x, *module.parameters()])

    return check


def _image_case(
    make: Callable[[], nn.Module],
    dtype: torch.dtype,
    kind: str,
    shape: tuple[int, ...],
    training: bool,
) -> Callable[[], bool]:
    def check() -> bool:
        torch.manual_seed(1)
        module = make().to(dtype)
        x = values(kind, shape, torch.Generator().manual_seed(2)).to(dtype).requires_grad_()
        if not training:
            module(x)  # the batch statistics of extreme input, too
            module.eval()
        return finite(module(x), [x, *module.parameters()])

    return check


def _encoder_case(dtype: torch.dtype, scale: float, side: str) -> Callable[[], bool]:
    def check() -> bool:
        encoder = make_encoder(layers=4)
        with torch.no_grad():
            encoder.embed_tokens.weight.mul_(scale / encoder.embed_scale)
        encoder = encoder.to(dtype).eval()
        mask = padding(side, 40)
        assert mask is not None
        tokens = torch.randint(4, 30, mask.shape, generator=torch.Generator().manual_seed(3))
        tokens = tokens.masked_fill(mask, 1)
        out = encoder(tokens, (~mask).sum(1))["encoder_out"][0]
        return finite(out[~mask.t()], list(encoder.parameters()))

    return check


def make_encoder(layers: int = 2, width: int = 32, **options: Any) -> LightConvCGCEncoder:
    """An encoder of ``lightconv_cgc_tiny``, a little narrower."""
    torch.manual_seed(1)
    found = {**architecture_values("lightconv_cgc_tiny"), **options}
    found["encoder_kernel_size_list"] = found["encoder_kernel_size_list"][:layers]
    config = LightConvCGCConfig(
        **{
            **found,
            "encoder_layers": layers,
            "encoder_embed_dim": width,
            "encoder_ffn_embed_dim": width,
            "max_source_positions": 256,
            "max_target_positions": 256,
        }
    )
    dictionary = Dictionary()
    for number in range(26):
        dictionary.add_symbol(f"w{number}")
    embedding = nn.Embedding(len(dictionary), width, dictionary.pad())
    return LightConvCGCEncoder(resolve(config), dictionary, embedding)


def independence(seed: int) -> tuple[float, float]:
    """How far a random batch's sentences are from the same sentences alone.

    Args:
        seed: decides the sentences, the side of their padding, and the sizes of the module.

    Returns:
        The largest difference of :class:`CGLightConv`'s outputs in float32 and of the encoder's in
        float64, each relative to the largest output.
    """
    draw = random.Random(seed)
    side = draw.choice(["left", "right"])
    longest = draw.choice([1, 5, 30, 30, 60, 130])
    lengths = [draw.randint(1, longest) for _ in range(draw.randint(2, 6))]
    time = max(lengths) + draw.choice([0, 0, 3])
    position = torch.arange(time)
    mask = torch.stack([position >= n if side == "right" else position < time - n for n in lengths])
    return _of_convolution(draw, lengths, mask), _of_encoder(draw, lengths, mask)


def _of_convolution(draw: random.Random, lengths: list[int], mask: Tensor) -> float:
    torch.manual_seed(draw.randrange(2**31))
    heads = draw.choice([1, 2, 4])
    module = CGLightConv(
        heads * draw.choice([1, 4]),
        draw.choice([1, 3, 7, 15, 31]),
        heads,
        gate_target=draw.choice(GATE_TARGETS),
        gate_norm=draw.choice(GATE_NORMS),
    ).eval()
    scale = draw.choice([1e-3, 1.0, 1e3])
    sentences = [torch.randn(length, 1, module.channels) * scale for length in lengths]
    batch = torch.full((mask.shape[1], len(lengths), module.channels), float("nan"))
    for i, sentence in enumerate(sentences):
        batch[~mask[i], i] = sentence[:, 0]
    together = module(batch, mask)
    pairs = [
        (together[~mask[i], i], module(sentence)[:, 0]) for i, sentence in enumerate(sentences)
    ]
    return _largest_difference(pairs)


_ENCODER: list[LightConvCGCEncoder] = []


def _of_encoder(draw: random.Random, lengths: list[int], mask: Tensor) -> float:
    if not _ENCODER:
        _ENCODER.append(make_encoder(layers=3, width=8).double().eval())
    (encoder,) = _ENCODER
    generator = torch.Generator().manual_seed(draw.randrange(2**31))
    tokens = torch.randint(4, 30, mask.shape, generator=generator).masked_fill(mask, 1)
    together = encoder(tokens, torch.tensor(lengths))["encoder_out"][0]
    pairs = []
    for i, length in enumerate(lengths):
        alone = encoder(tokens[i][~mask[i]].unsqueeze(0), torch.tensor([length]))
        pairs.append((together[~mask[i], i], alone["encoder_out"][0][:, 0]))
    return _largest_difference(pairs)


def _largest_difference(pairs: list[tuple[Tensor, Tensor]]) -> float:
    largest = max(alone.abs().max().item() for _, alone in pairs)
    difference = max((together - alone).abs().max().item() for together, alone in pairs)
    # A NaN would be lost in a maximum.
    if not all(bool(t.isfinite().all()) for pair in pairs for t in pair):
        return float("inf")
    return difference / max(largest, 1e-30)
