"""Tile sizes of the Triton kernels, all chosen here.

Every new combination compiles a kernel again, so the sizes follow the input as coarsely as
possible: a length is either short or long.

Arguments: ``time`` T, ``width`` R channels per head, ``size`` K, ``pooled`` P positions, ``latent``
d.
"""

from __future__ import annotations

import triton.language as tl

#: The smallest tile that tensor cores multiply, in rows or columns.
SMALLEST = 16
#: Inputs of at most this many positions are short: one block of this size holds them all.
SHORT = 32
#: Positions up to which a program of the gate averages its head's channels itself. For longer
#: inputs that is work for more programs than there are heads and sentences.
AVERAGED_AT_ONCE = 128
#: Positions of the padding mask that are counted at a time.
COUNTED_AT_ONCE = tl.constexpr(1024)
#: Rows of partial sums that the gate's backward pass adds up at a time.
SUMMED_AT_ONCE = tl.constexpr(16)


def power_of_two(size: int) -> int:
    """The smallest tile that holds ``size`` numbers."""
    return max(SMALLEST, 1 << (size - 1).bit_length())


def count_blocks(size: int, block: int) -> int:
    """How many blocks hold ``size`` numbers; Triton's own function takes several microseconds."""
    return -(-size // block)


def convolution_tiles(time: int, width: int, itemsize: int, *, drops: bool) -> dict[str, int]:
    """The convolution: output positions, input positions and channels.

    ``itemsize`` is in bytes; ``drops`` says whether DropConnect is active.
    """
    # Large blocks read fewer positions twice; small ones draw fewer numbers for entries that are
    # not taps.
    block_t = time_block(time, 64 if itemsize == 2 and not drops else 32)
    return {
        "BLOCK_T": block_t,
        "BLOCK_S": min(block_t, 32),
        "BLOCK_R": min(power_of_two(width), 128 if itemsize == 2 else 64),
        "num_warps": 4,
        "num_stages": stages(time),
    }


def tap_tiles(time: int, width: int, size: int, itemsize: int) -> dict[str, int]:
    """The kernel's gradient: output positions, the window they see, and channels."""
    block_t = time_block(time, 32)
    return {
        "BLOCK_T": block_t,
        "BLOCK_S": power_of_two(block_t + size - 1),
        "BLOCK_R": min(power_of_two(width), 128 if itemsize == 2 else 32),
        "num_warps": 4,
        "num_stages": stages(time),
    }


def tap_span(time: int, rows: int, block_t: int) -> int:
    """Positions, a multiple of ``block_t``, that one program of the kernel's gradient adds up.

    The positions of each of ``rows`` heads and sentences are divided among several programs until
    a large GPU is busy, as long as each has a few blocks.
    """
    splits = max(1, min(1024 // rows, count_blocks(time, 4 * block_t)))
    return count_blocks(count_blocks(time, splits), block_t) * block_t


def gate_tiles(time: int, pooled: int, latent: int, size: int) -> dict[str, int]:
    """The gate: positions, pooled positions and latent numbers."""
    block_p = power_of_two(pooled)
    is_long = time > AVERAGED_AT_ONCE
    return {
        # A block of positions with R channels each, or one that keeps P numbers for each.
        "BLOCK_T": min(8192 // block_p, AVERAGED_AT_ONCE) if is_long else 32,
        "BLOCK_P": block_p,
        "BLOCK_D": power_of_two(latent),
        "num_warps": 8 if is_long or size > 31 else 4,
    }


def channel_tile(width: int) -> int:
    """Channels of a head that the gate averages at a time."""
    return min(power_of_two(width), 128)


def time_block(time: int, largest: int) -> int:
    """Positions of a block for inputs of ``time`` positions: one of two sizes."""
    return SHORT if time <= SHORT else largest


def stages(time: int) -> int:
    """How many blocks of a loop are in flight: one where there is only one."""
    return 1 if time <= SHORT else 3
