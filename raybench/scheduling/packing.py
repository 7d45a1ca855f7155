"""How many trials to run at once on one machine or GPU: images per second of so many together in, a number out.

More together only while their total rises: each step from one number to the next has to gain `GAIN`. What one more
trial adds falls steadily in practice, as cores, memory bandwidth and the GPU fill up, so the search ends at the first
step that does not pay. A number whose processes ran out of memory has no total (NaN), and ends the search as well.
"""

import math
from collections.abc import Mapping

GAIN = 1.05
"""Less is within what a measurement is off by, and more trials at once need more memory."""
MEMORY_SHARE = 0.8
"""Of the memory, that all trials together may be expected to take."""
GPU_MEMORY_SHARE = 0.5
"""Likewise of a GPU's: trials keep their images there too, where these fit."""


def next_number(totals: Mapping[int, float], most: int) -> int | None:
    """Return which number of trials at once to measure next, or None where the search has ended.

    `totals` holds images per second by number; numbers double up to `most`, which is the last.
    """
    if not totals:
        return 1
    last = max(totals)
    if last >= most or best_number(totals) != last:
        return None
    return min(2 * last, most)


def best_number(totals: Mapping[int, float]) -> int:
    """Return the number of trials at once up to which each step paid; 1 where nothing was measured."""
    numbers = sorted(totals)
    best = 1
    for number in numbers:
        if number != 1 and not totals[number] >= GAIN * totals[best]:
            break
        best = number
    return best


def most_in_memory(*, peak_bytes: int, memory_bytes: int, on_gpu: bool) -> int:
    """Return how many processes that take `peak_bytes` each fit into the memory, at least one."""
    share = GPU_MEMORY_SHARE if on_gpu else MEMORY_SHARE
    return max(1, math.floor(share * memory_bytes / max(peak_bytes, 1)))


def affordable_batch(batch_size: int, images_per_second: float, *, seconds: float, smallest: int = 2) -> int:
    """Return the batch size, halved until a step should take no longer than `seconds`."""
    while batch_size >= 2 * smallest and batch_size > seconds * images_per_second:
        batch_size //= 2
    return batch_size
