"""Weights that come from elsewhere: another run's checkpoint, or fairseq's LightConv."""

from __future__ import annotations

import logging
from pathlib import Path

from torch import Tensor, nn

from fairseq_cgc.core import UserError
from fairseq_cgc.support.checkpoints import load_model_state

logger = logging.getLogger(__name__)

State = dict[str, Tensor]


def check_state(model: nn.Module, state: State) -> None:
    """Say in one line why ``state`` does not fit ``model``.

    Args:
        model: the model to be loaded.
        state: a checkpoint's ``"model"`` entry.

    Raises:
        UserError: if a dictionary, the gates, or any weight differ.
    """
    own = model.state_dict()
    for side in ("encoder", "decoder"):
        key = f"{side}.embed_tokens.weight"
        if key in state and state[key].shape[0] != own[key].shape[0]:
            raise UserError(
                f"the checkpoint's {side} dictionary has {state[key].shape[0]} types, but the "
                f"data's has {own[key].shape[0]}; use the dictionaries it was trained with"
            )
    if _has_gates(own) and not _has_gates(state):
        raise UserError(
            "the checkpoint has no gates: it is not of a lightconv_cgc model; to start from "
            "fairseq's LightConv, train with --init-from-lightconv PATH"
        )
    _check_keys_and_shapes(own, state, "the checkpoint")


def _has_gates(state: State) -> bool:
    return any(".gate." in key for key in state)


def _check_keys_and_shapes(own: State, state: State, what: str) -> None:
    # fairseq drops or fills these itself when it loads a state.
    own = {k: v for k, v in own.items() if not k.endswith(("version", "_float_tensor"))}
    state = {k: v for k, v in state.items() if not k.endswith(("version", "_float_tensor"))}
    missing, unknown = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    if missing or unknown:
        first = f"{missing[0]} is missing" if missing else f"{unknown[0]} is not in this model"
        raise UserError(
            f"{what} is of another architecture: {first} "
            f"({len(missing)} missing, {len(unknown)} unknown in all)"
        )
    for key, value in state.items():
        if value.shape != own[key].shape:
            raise UserError(
                f"{what} is of another architecture: {key} is {tuple(value.shape)}, "
                f"but must be {tuple(own[key].shape)}"
            )


def load_lightconv(model: nn.Module, path: str) -> None:
    """Copy every weight of a LightConv checkpoint; the gates keep their initial values.

    Args:
        model: a ``LightConvCGCModel``.
        path: a checkpoint of fairseq's ``lightconv`` with lightweight convolutions.

    Raises:
        UserError: if the file cannot be read, or is not such a checkpoint, or its options
            or dictionaries differ from the model's.
    """
    what = f"--init-from-lightconv {path}"
    own = model.state_dict()
    state = _in_todays_form(load_model_state(Path(path))["model"])
    for key in state:
        if key.startswith("encoder.") and key.endswith("conv.weight_linear.weight"):
            raise UserError(f"{what} has dynamic encoder convolutions; they must be lightweight")
    gates = {key: value for key, value in own.items() if ".gate." in key and key not in state}
    _check_keys_and_shapes(own, {**gates, **state}, what)
    nn.Module.load_state_dict(model, {**own, **state})
    logger.info("initialised from %s; %d gate tensors are new", path, len(gates))


def _in_todays_form(state: State) -> State:
    """Undo what differs in checkpoints of fairseq's CUDA layer, and of fairseq before 0.10."""
    renamed = {
        "decoder.output_projection.weight" if key == "decoder.embed_out" else key: value
        for key, value in state.items()
    }
    return {
        key: value.unsqueeze(1) if key.endswith("conv.weight") and value.dim() == 2 else value
        for key, value in renamed.items()
    }
