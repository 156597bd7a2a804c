"""Sizes of the blocks that the kernels work on.

They depend on the input as coarsely as possible: every new size compiles a kernel again.
"""

from __future__ import annotations

#: Tensor cores multiply tiles of at least this many rows and columns.
SMALLEST = 16
#: Positions of a block for inputs that have no more.
SHORT = 32


def power_of_two(size: int) -> int:
    """The smallest block that holds ``size`` numbers."""
    return max(SMALLEST, 1 << (size - 1).bit_length())


def count_blocks(size: int, block: int) -> int:
    """How many blocks hold ``size`` numbers; Triton's own function takes several microseconds."""
    return -(-size // block)


def time_block(time: int, largest: int) -> int:
    """Positions of a block for inputs of ``time`` positions: one of two sizes."""
    return SHORT if time <= SHORT else largest


def stages(time: int) -> int:
    """How many blocks of a loop are in work at a time: one where there is only one."""
    return 1 if time <= SHORT else 3
