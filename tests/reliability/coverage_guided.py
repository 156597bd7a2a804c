"""A small coverage-guided fuzzer: bytes that reach new lines of the package are kept and changed.

It serves hypothesis' ``fuzz_one_input``, which turns bytes into a case of a test's strategy. It
needs nothing but Python, where atheris needs a build for the very version of the interpreter.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

PACKAGE = str(Path(__file__).resolve().parents[2] / "fairseq_cgc")
_LONGEST = 4096  # bytes of an input


class Lines:
    """The lines of the package that were ever reached while this is the context."""

    def __init__(self) -> None:
        self.seen: set[tuple[str, int]] = set()
        self._ours: dict[str, bool] = {}

    def __enter__(self) -> Lines:
        self._before = sys.gettrace()
        sys.settrace(self._on_call)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)

    def _on_call(self, frame: FrameType, event: str, argument: Any) -> Any:
        name = frame.f_code.co_filename
        if name not in self._ours:
            self._ours[name] = name.startswith(PACKAGE)
        return self._on_line if self._ours[name] else None

    def _on_line(self, frame: FrameType, event: str, argument: Any) -> Any:
        self.seen.add((frame.f_code.co_filename, frame.f_lineno))
        return self._on_line


def explore(
    run: Callable[[bytes], bytes | None], seed: int, is_enough: Callable[[], bool]
) -> list[bytes]:
    """Feed ``run`` with inputs until ``is_enough``.

    Args:
        run: tries one input; gives the bytes that it used of it, or None if they make no case.
        seed: another seed gives other inputs.
        is_enough: asked before each input.

    Returns:
        The inputs that reached new lines, in order.
    """
    draw = random.Random(seed)
    kept: list[bytes] = []
    lines = Lines()
    while not is_enough():
        # Fresh bytes now and then: what is kept may all be of one kind.
        fresh = not kept or draw.random() < 0.2
        given = draw.randbytes(draw.choice([16, 64, 512])) if fresh else _changed(draw, kept)
        before = len(lines.seen)
        with lines:
            used = run(given)
        if used is not None and len(lines.seen) > before:
            kept.append(used)
    return kept


def _changed(draw: random.Random, kept: list[bytes]) -> bytes:
    """One of the inputs, more often a late one, with a few changes."""
    content = bytearray(kept[max(draw.randrange(len(kept)), draw.randrange(len(kept)))])
    for _ in range(draw.choice([1, 1, 2, 4, 8])):
        at = draw.randrange(len(content) + 1)
        match draw.randrange(5):
            case 0 if at < len(content):
                content[at] ^= 1 << draw.randrange(8)
            case 1 if at < len(content):
                content[at] = draw.choice([0, 127, 255, *draw.choices(range(256), k=6)])
            case 2:
                content[at:at] = draw.randbytes(draw.choice([1, 2, 8, 32]))
            case 3:
                del content[at : at + draw.choice([1, 2, 8])]
            case _:
                other = draw.choice(kept)
                start = draw.randrange(len(other) + 1)
                content[at:at] = other[start : start + draw.choice([4, 16, 64])]
    return bytes(content[:_LONGEST])
