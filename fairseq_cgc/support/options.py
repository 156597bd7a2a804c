"""Command-line options from dataclass fields: help, choices and range stand at the field."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection
from dataclasses import Field, field, fields
from types import UnionType
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

from fairseq_cgc.support.errors import UserError


class Range(NamedTuple):
    """The allowed numbers, in words and as a condition (which must be false for NaN)."""

    allowed: str
    holds: Callable[[Any], bool]


AT_LEAST_0 = Range("at least 0", lambda value: value >= 0)
AT_LEAST_1 = Range("at least 1", lambda value: value >= 1)
ABOVE_0 = Range("more than 0", lambda value: value > 0)
BELOW_1 = Range("from 0 to below 1", lambda value: 0 <= value < 1)


def between(low: float, high: float) -> Range:
    """The range from ``low`` to ``high``, both included."""
    return Range(f"from {low} to {high}", lambda value: low <= value <= high)


def setting(
    default: Any,
    help_: str,
    choices: tuple[str, ...] = (),
    range_: Range | None = None,
    metavar: str | None = None,
) -> Any:
    """A dataclass field that has a command-line option and is checked by :func:`check_values`."""
    metadata = {"help": help_, "choices": choices, "range": range_, "metavar": metavar}
    return field(default=default, metadata=metadata)


def option_of(name: str) -> str:
    """The command-line option of a field: ``--batch-size`` for ``batch_size``."""
    return f"--{name.replace('_', '-')}"


def demand(values: Any, name: str, fulfilled: bool, allowed: str) -> None:
    """Require a condition of the field ``name`` of the dataclass instance ``values``.

    Raises:
        UserError: naming the option, its value and what is allowed.
    """
    if not fulfilled:
        value = getattr(values, name)
        shown = " ".join(map(str, value)) if isinstance(value, tuple) else value
        raise UserError(f"{option_of(name)} is {shown}, but must be {allowed}")


def check_values(values: Any) -> None:
    """Check every field of a dataclass instance against its choices and range.

    ``None`` is always allowed.

    Raises:
        UserError: naming the first option whose value is not allowed.
    """
    for option in fields(values):
        value = getattr(values, option.name)
        if value is None:
            continue
        if choices := option.metadata.get("choices"):
            demand(values, option.name, value in choices, " or ".join(choices))
        if range_ := option.metadata.get("range"):
            demand(values, option.name, range_.holds(value), range_.allowed)


def add_options(
    group: Any,
    kind: Any,
    *,
    leave_out: Collection[str] = (),
    usual_value: Callable[[str], str] | None = None,
    negatable: bool = False,
) -> None:
    """Add the options of a dataclass, without defaults; :func:`given_values` reads them.

    Args:
        group: a parser, or a group of its options.
        kind: the dataclass.
        leave_out: names of fields that get no option.
        usual_value: what the help text says of a field's usual value. By default that is the
            field's default, unless the text ends in a bracket, which then tells it.
        negatable: give switches a ``--no-`` form too.
    """
    types = get_type_hints(kind)
    for option in fields(kind):
        if "help" not in option.metadata or option.name in leave_out:
            continue
        type_ = types[option.name]
        if isinstance(type_, UnionType):  # T | None
            type_ = next(t for t in get_args(type_) if t is not type(None))
        help_ = _help(option, usual_value)
        keywords: dict[str, Any] = {"help": help_.replace("%", "%%"), "default": None}
        if type_ is bool:
            keywords["action"] = argparse.BooleanOptionalAction if negatable else "store_true"
        elif choices := option.metadata["choices"]:
            keywords |= {"type": type_, "choices": choices}
        else:
            metavar = option.metadata["metavar"] or option.name.rpartition("_")[2].upper()
            if get_origin(type_) is tuple:
                type_, keywords["nargs"] = get_args(type_)[0], "*"
            keywords |= {"type": type_, "metavar": metavar}
        group.add_argument(option_of(option.name), **keywords)


def _help(option: Field[Any], usual_value: Callable[[str], str] | None) -> str:
    text = option.metadata["help"]
    if usual_value:
        return f"{text} ({usual_value(option.name)})"
    told = isinstance(option.default, bool | None) or text.endswith(")")
    return text if told else f"{text} ({option.default})"


def given_values(arguments: argparse.Namespace, kind: Any) -> dict[str, Any]:
    """The values of those fields of a dataclass whose options the user gave."""
    given = {option.name: getattr(arguments, option.name, None) for option in fields(kind)}
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in given.items()
        if value is not None
    }
