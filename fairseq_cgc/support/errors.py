"""The one exception for mistakes that the user can correct."""

from __future__ import annotations

from collections.abc import Sequence


class UserError(ValueError):
    """A wrong option, file or checkpoint, reported in one line.

    The message names the option (or file), its value and what is allowed, for
    example ``--encoder-kernel-size-list has 4 entries, but --encoder-layers is 7``.
    Command-line programs print it without a traceback and exit with status 1.
    """


def some_names(names: Sequence[str], number: int = 3) -> str:
    """The first of many names and how many more there are, for a message."""
    more = f" and {len(names) - number} more" if len(names) > number else ""
    return ", ".join(names[:number]) + more
