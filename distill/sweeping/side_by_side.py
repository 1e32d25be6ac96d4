"""Cells one after the other, or several at once, each on one thread of BLAS.

Small products gain nothing from more threads of BLAS and lose much when other processes want the
cores. Cells at once gain where their products are long; where they are short, threads wait for
Python's lock more than they compute (measured: 300 rows of 6 classes take three times as long).
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

from threadpoolctl import threadpool_limits

from distill.machine import cores

MOST_WORKERS = 8  # each holds a projected matrix and two copies of most of it
LONG = 2**18  # logits of all rows, from which cells are worked on side by side

Item = TypeVar("Item")
Made = TypeVar("Made")


def threads_for(logits: int) -> AbstractContextManager[object]:
    """One thread of BLAS for short products; two take milliseconds where one takes microseconds."""
    return nullcontext() if logits >= LONG else threadpool_limits(1)


def side_by_side(
    work: Callable[[Item], Made], items: Iterable[Item], *, logits: int
) -> Generator[Made]:
    """Results in the order of the items, which are asked for a few ahead.

    ``logits`` is the size of a cell's work, rows x classes. After an error, or when nobody asks
    for more, no further item is begun.
    """
    workers = min(MOST_WORKERS, cores()) if logits >= LONG else 1
    with threadpool_limits(1):
        if workers == 1:
            yield from map(work, items)
            return
        ahead: deque[Future[Made]] = deque()
        with ThreadPoolExecutor(workers) as pool:
            try:
                for item in items:
                    ahead.append(pool.submit(work, item))
                    if len(ahead) > workers:
                        yield ahead.popleft().result()
                while ahead:
                    yield ahead.popleft().result()
            finally:
                for future in ahead:
                    future.cancel()
