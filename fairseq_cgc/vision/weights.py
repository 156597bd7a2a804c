"""Weights of image models: read without running code, loaded whole or not at all."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from fairseq_cgc.core import UserError
from fairseq_cgc.support.checkpoints import read_safely
from fairseq_cgc.support.errors import some_names

logger = logging.getLogger(__name__)

_WRAPPERS = ("module.", "_orig_mod.")  # DistributedDataParallel's and torch.compile's
#: What a plain ResNet lacks: a part of the parameters' names, and what messages call it.
ADDITIONS = {
    "gate": "gates",
    "attention": "attention blocks",
    "temporal": "temporal convolutions",
    "after": "blocks between residual blocks",
    "offset": "offsets",
    "volume": "3-D layers",
}


def load_weights(model: nn.Module, path: str | Path, *, other_classes: bool = False) -> None:
    """Load a checkpoint's parameters, and log what it lacks.

    The checkpoint of a plain ResNet, torchvision's for example, also fits a model with additions:
    gates (or attention, offsets) that it lacks altogether keep their initial values.

    Args:
        model: of :func:`fairseq_cgc.vision.create_model`.
        path: as for :func:`read_weights`.
        other_classes: whether a classifier for another number of classes, or of another kind,
            is left out, so that the model's own keeps its initial values.

    Raises:
        UserError: if the file cannot be read or is not such a dictionary, or other names or
            shapes differ. The model is then unchanged.
    """
    state = read_weights(path)
    own = model.state_dict()
    kept: dict[str, set[str]] = {}
    if other_classes and _classifier(state) not in ({}, _classifier(own)):
        classes, theirs = (list(_classifier(s).values())[-1][:1] for s in (own, state))
        is_alike = classes == theirs
        what = (
            "classifier weights of this kind" if is_alike else f"outputs for {classes[0]} classes"
        )
        kept[what] = set(_classifier(own))
        state = {n: tensor for n, tensor in state.items() if n not in _classifier(state)}
    for name, tensor in state.items():
        if name in own and tensor.shape != own[name].shape:
            raise UserError(
                f"{name} is {_shape(tensor)} in {path}, but {_shape(own[name])} in the model"
            )
    unknown = [name for name in state if name not in own]
    if unknown:
        raise UserError(f"{path} holds {some_names(unknown)}, which the model lacks")
    # Old checkpoints have no batch counters, which hardly matter.
    missing = [n for n in own if n not in state and not n.endswith("num_batches_tracked")]
    for addition, what in ADDITIONS.items():
        of_model = {name for name in own if addition in name.split(".")}
        if of_model and not any(name in of_model for name in state):
            kept[what] = of_model
    absent = [name for name in missing if not any(name in names for names in kept.values())]
    if absent:
        raise UserError(f"{path} lacks {some_names(absent)}")
    model.load_state_dict(state, strict=False)
    for what in kept:
        logger.warning("%s holds no %s: they keep their initial values", path, what)


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """A checkpoint's parameters under the model's own names.

    Args:
        path: a state dict, or a dictionary with one under ``model`` or ``state_dict``; the
            prefixes of wrappers (``module.``) are removed.

    Raises:
        UserError: if the file cannot be read or is not such a dictionary.
    """
    state = read_safely(Path(path))
    for key in ("model", "state_dict"):
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise UserError(f"weights {path} are not a dictionary of tensors by their names")
    names = list(state)
    while names and (prefix := next((w for w in _WRAPPERS if names[0].startswith(w)), None)):
        if not all(name.startswith(prefix) for name in names):
            break
        names = [name.removeprefix(prefix) for name in names]
    return dict(zip(names, state.values(), strict=True))


def _classifier(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Shapes of the classifier's parameters; the last of them has an entry for each class."""
    return {name: tuple(tensor.shape) for name, tensor in state.items() if name.startswith("fc.")}


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "one number"
