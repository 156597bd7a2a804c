"""How repairs replace functions of fairseq: with the original at hand."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

Function = Callable[..., Any]


def replaces(owner: Any, name: str) -> Callable[[Function], Function]:
    """Decorate the function that replaces ``owner.name``.

    It is called with the original as its first argument, then with what the caller gave.

    Args:
        owner: a module, a class or an object.
        name: of its function.
    """
    original = getattr(owner, name)
    is_static = isinstance(inspect.getattr_static(owner, name), staticmethod)

    def decorate(function: Function) -> Function:
        @functools.wraps(original)
        def replacement(*args: Any, **kwargs: Any) -> Any:
            return function(original, *args, **kwargs)

        setattr(owner, name, staticmethod(replacement) if is_static else replacement)
        return function

    return decorate
