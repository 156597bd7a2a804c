"""A part of the package under fire."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from surroundings import Surroundings


@dataclass(frozen=True)
class Target:
    """What hostile cases are given to. A case that is lost raises."""

    cases: st.SearchStrategy[Any]
    attempt: Callable[[Surroundings, Any], bool]
    """Whether the case gave a result; False after one clear error."""
    share: int
    """Of a hundred cases."""
