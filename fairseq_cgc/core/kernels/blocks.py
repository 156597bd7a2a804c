"""Sizes of the blocks that the kernels work on.

They depend on the input as coarsely as possible: every new size compiles a kernel again.
"""

from __future__ import annotations

#: Tensor cores multiply tiles of at least this many rows and columns.
SMALLEST = 16


def power_of_two(size: int) -> int:
    """The smallest block that holds ``size`` numbers."""
    return max(SMALLEST, 1 << (size - 1).bit_length())


def time_block(time: int, largest: int) -> int:
    """Positions of a block for inputs of ``time`` positions."""
    return min(power_of_two(time), largest)
