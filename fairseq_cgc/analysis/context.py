"""What context is worth to a trained translation model: its loss with other gates than its own.

The gates of a sentence are replaced, in all layers or in one, and the loss of the references is
measured again. If it stays the same, the model makes no use of what the replacement leaves out.

Shape letters: N sentences, B sentences of a batch, H heads, K kernel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from fairseq_cgc.analysis.gates import record_gates
from fairseq_cgc.core import UserError
from fairseq_cgc.inference.dictionary import EOS, PAD
from fairseq_cgc.inference.model import Model

Pair = tuple[Tensor, Tensor]
ALL = "all"


class Increase(NamedTuple):
    """By how much the loss rises, in bits per subword.

    Attributes:
        mean: over all subwords.
        error: half of the width of the 95 % confidence interval, over the choice of sentences.
    """

    mean: float
    error: float


@dataclass(frozen=True)
class ContextWorth:
    """The losses of a model with its own gates and with others.

    Attributes:
        sentences, subwords: how many were scored; the ends of target sentences are subwords.
        nll: the negative log-likelihood with the model's own gates, in bits per subword.
        increases: name of a replacement in :data:`REPLACEMENTS` -> name of a gated convolution, or
            ``all`` -> how the loss rises.
        kernel_sizes: of each gated convolution.
    """

    sentences: int
    subwords: int
    nll: float
    increases: dict[str, dict[str, Increase]]
    kernel_sizes: dict[str, int]


def _mean_gates(gates: Tensor, lengths: Tensor) -> Tensor:
    return gates.mean(0, keepdim=True).expand_as(gates)


def _gates_of_equal_length(gates: Tensor, lengths: Tensor) -> Tensor:
    return gates[sentences_of_equal_length(lengths)]


#: Other gates, N x H x K, from the sentences' own and their lengths, N. The mean over all sentences
#: leaves no context; another sentence of the same length leaves nothing of it but the length.
REPLACEMENTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mean": _mean_gates,
    "same length": _gates_of_equal_length,
}


def sentences_of_equal_length(lengths: Tensor) -> Tensor:
    """For each of two or more sentences the place of another one, of equal length where possible.

    Args:
        lengths: N, in rising order. The only sentence of a length gets one of its neighbours.
    """
    places = torch.arange(len(lengths))
    others = places.clone()
    for length in lengths.unique():
        alike = places[lengths == length]
        others[alike] = alike.roll(1)
    for place in places[others == places].tolist():
        neighbours = [p for p in (place - 1, place + 1) if 0 <= p < len(lengths)]
        others[place] = min(neighbours, key=lambda p: abs(int(lengths[p] - lengths[place])))
    return others


def measure_context(
    model: Model, pairs: Sequence[Pair], batches: Sequence[Sequence[int]]
) -> ContextWorth:
    """Score references with a model's own gates and with others.

    Args:
        model: with gates in its encoder or decoder.
        pairs: the numbers of the types of source and target, each with the end of the sentence.
        batches: positions in ``pairs``, shorter sources first.

    Raises:
        UserError: if the model has no gates, or there are fewer than two sentences.
    """
    order = [number for batch in batches for number in batch]
    if len(order) < 2:
        raise UserError(f"the number of sentences is {len(order)}, but must be at least 2")
    lengths = torch.tensor([len(pairs[number][0]) for number in order])
    subwords = sum(len(pairs[number][1]) for number in order)
    with record_gates(model) as recorded:
        own = torch.cat([target_losses(model, [pairs[i] for i in batch]) for batch in batches])
    gates = {name: torch.cat(found) for name, found in recorded.items()}
    layers = {ALL: list(gates), **({name: [name] for name in gates} if len(gates) > 1 else {})}
    increases: dict[str, dict[str, Increase]] = {kind: {} for kind in REPLACEMENTS}
    steps = len(REPLACEMENTS) * len(layers) * len(batches)
    with tqdm(total=steps, desc="other gates", unit="batch") as bar:
        for kind, replace in REPLACEMENTS.items():
            others = {name: replace(found, lengths) for name, found in gates.items()}
            for layer, names in layers.items():
                losses, place = [], 0
                for batch in batches:
                    rows = slice(place, place + len(batch))
                    with replace_gates(model, {name: others[name][rows] for name in names}):
                        losses.append(target_losses(model, [pairs[i] for i in batch]))
                    place = rows.stop
                    bar.update()
                increases[kind][layer] = _increase(torch.cat(losses) - own, subwords)
    sizes = {name: found.shape[-1] for name, found in gates.items()}
    return ContextWorth(len(order), subwords, float(own.sum()) / subwords, increases, sizes)


def _increase(differences: Tensor, subwords: int) -> Increase:
    """From the differences of the sentences' losses, N."""
    deviation = float(differences.std()) * math.sqrt(len(differences))  # of their sum
    return Increase(float(differences.sum()) / subwords, 1.96 * deviation / subwords)


@contextmanager
def replace_gates(model: nn.Module, gates: Mapping[str, Tensor]) -> Iterator[None]:
    """Let convolutions use these gates while the block runs, whatever their inputs are.

    Args:
        model: any module.
        gates: name of a convolution -> B x H x K, as :func:`record_gates` has recorded them.
    """

    def replacement(gate: Tensor) -> Any:
        def put(module: nn.Module, inputs: Any, own: Tensor) -> Tensor:
            return gate.unsqueeze(2).to(own)

        return put

    with ExitStack() as hooks:
        for name, gate in gates.items():
            module = model.get_submodule(f"{name}.gate")
            hooks.enter_context(module.register_forward_hook(replacement(gate)))
        yield


@torch.inference_mode()
def target_losses(model: Model, pairs: Sequence[Pair]) -> Tensor:
    """The negative log-likelihood of each target given its source, in bits: B, in float64."""
    device = model.encoder.embed_tokens.weight.device
    sources, targets = (
        pad_sequence(list(side), batch_first=True, padding_value=PAD).to(device)
        for side in zip(*pairs, strict=True)
    )
    mask = sources.eq(PAD)
    state = model.decoder.begin(model.encoder(sources, mask if mask.any() else None))
    previous = torch.full((len(pairs),), EOS, device=device)  # with which fairseq begins
    losses = torch.zeros(len(pairs), dtype=torch.float64, device=device)
    for wanted in targets.unbind(1):
        logs = model.decoder.step(previous, state).log_softmax(-1, dtype=torch.float32)
        found = logs.gather(1, wanted.unsqueeze(1)).squeeze(1)
        losses -= found.masked_fill(wanted.eq(PAD), 0.0)
        previous = wanted
    return losses.cpu() / math.log(2)
