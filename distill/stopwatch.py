"""Time of calls side by side: all in turn, again and again, the median of each.

What slows a machine for a while slows all of them, not the one that happened to run.
"""

import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)
Call = tuple[Callable[[], None], Callable[[], None]]  # made ready, which is not timed; then timed

WARM_UP = 2  # calls of each that are not timed: they allocate, choose kernels, fill caches
LEAST = 3


def interleaved(
    calls: Mapping[Key, Call],
    *,
    repeats: int,
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[Key, float]:
    """Median seconds of each call, of ``repeats`` rounds of all, or those that fit in ``seconds``.

    At least ``LEAST`` rounds are timed whatever they take. Every second round runs backward, so
    that no call always follows the same one.
    """
    times: dict[Key, list[float]] = {key: [] for key in calls}
    begun = clock()
    order = list(calls)
    for number in range(WARM_UP + repeats):
        for key in order if number % 2 == 0 else reversed(order):
            ready, call = calls[key]
            ready()
            start = clock()
            call()
            stop = clock()
            if number >= WARM_UP:
                times[key].append(stop - start)
        if number + 1 >= WARM_UP + LEAST and clock() - begun > seconds:
            break
    return {key: statistics.median(found) for key, found in times.items()}
