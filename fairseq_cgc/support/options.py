"""Dataclass fields as options of the command line: help, choices and range stand at the field."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from dataclasses import field, fields
from types import UnionType
from typing import Any, NamedTuple, get_args, get_type_hints

from fairseq_cgc.support.errors import UserError

MESSAGE = "{option} is {value}, but must be {allowed}"


class Range(NamedTuple):
    """Which numbers are allowed, in words and as a condition (which NaN must not fulfil)."""

    allowed: str
    holds: Callable[[Any], bool]


AT_LEAST_0 = Range("at least 0", lambda value: value >= 0)
AT_LEAST_1 = Range("at least 1", lambda value: value >= 1)
ABOVE_0 = Range("more than 0", lambda value: value > 0)
BELOW_1 = Range("from 0 to below 1", lambda value: 0 <= value < 1)


class Option(NamedTuple):
    """One option: the field's name and type, its help text and what it may be chosen from."""

    name: str
    type: Any
    help: str
    choices: tuple[str, ...]


def setting(
    default: Any, help_: str, choices: tuple[str, ...] = (), range_: Range | None = None
) -> Any:
    """A field with an option on the command line, to be checked by :func:`check_values`."""
    return field(default=default, metadata={"help": help_, "choices": choices, "range": range_})


def option_of(name: str) -> str:
    """The command line's option for a field."""
    return f"--{name.replace('_', '-')}"


def demand(values: Any, name: str, fulfilled: bool, allowed: str, message: str = MESSAGE) -> None:
    """Require a condition of the field ``name`` of a dataclass.

    Raises:
        UserError: naming the option and what is allowed.
    """
    if not fulfilled:
        value = getattr(values, name)
        shown = " ".join(map(str, value)) if isinstance(value, tuple) else value
        raise UserError(message.format(option=option_of(name), value=shown, allowed=allowed))


def check_values(values: Any, message: str = MESSAGE) -> None:
    """Check the fields of a dataclass against their choices and ranges; ``None`` is allowed.

    Raises:
        UserError: naming the first option with another value.
    """
    for option in fields(values):
        value = getattr(values, option.name)
        if value is None:
            continue
        if choices := option.metadata.get("choices"):
            demand(values, option.name, value in choices, " or ".join(choices), message)
        if range_ := option.metadata.get("range"):
            demand(values, option.name, range_.holds(value), range_.allowed, message)


def options_of(kind: Any, shown: Callable[[str], str] | None = None) -> list[Option]:
    """The fields of a dataclass that have an option.

    Args:
        kind: the dataclass.
        shown: what the help text says of a field's usual value. By default that is the field's
            default, unless the text ends in a bracket, which then tells it.
    """
    types = get_type_hints(kind)
    found = []
    for option in fields(kind):
        if "help" not in option.metadata:
            continue
        type_ = types[option.name]
        if isinstance(type_, UnionType):  # T | None
            type_ = next(t for t in get_args(type_) if t is not type(None))
        help_ = option.metadata["help"]
        if shown:
            help_ += f" ({shown(option.name)})"
        elif not (option.default is None or type_ is bool or help_.endswith(")")):
            help_ += f" ({option.default})"
        found.append(Option(option.name, type_, help_, option.metadata["choices"]))
    return found


def add_options(group: Any, options: Iterable[Option], *, negatable: bool = False) -> None:
    """Add options without defaults: :func:`given_values` then tells which were given.

    Args:
        group: a parser, or a group of its options.
        options: to add.
        negatable: give a switch its ``--no-`` form too.
    """
    for name, type_, help_, choices in options:
        keywords: dict[str, Any] = {"help": help_.replace("%", "%%"), "default": None}
        if type_ is bool:
            keywords["action"] = argparse.BooleanOptionalAction if negatable else "store_true"
        elif choices:
            keywords |= {"type": type_, "choices": choices}
        elif type_ in (str, int, float):
            keywords |= {"type": type_, "metavar": name.rpartition("_")[2].upper()}
        else:
            keywords |= {"type": int, "nargs": "*", "metavar": "EPOCH"}
        group.add_argument(option_of(name), **keywords)


def given_values(arguments: argparse.Namespace, kind: Any) -> dict[str, Any]:
    """The fields whose options were given."""
    given = {option.name: getattr(arguments, option.name, None) for option in fields(kind)}
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in given.items()
        if value is not None
    }
