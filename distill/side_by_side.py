"""Work on several items at once, each on one thread of BLAS, with the results in order.

Faster than products on all threads one after the other, which wait for one another, and the same
bytes whatever the number of cores.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from threadpoolctl import threadpool_limits

from distill.machine import cores

MOST_WORKERS = 8  # each holds its item, and what it becomes

Item = TypeVar("Item")
Made = TypeVar("Made")


def side_by_side(
    work: Callable[[Item], Made], items: Iterable[Item], *, workers: int = MOST_WORKERS
) -> Generator[Made]:
    """Results in the order of the items, which are asked for a few ahead.

    After an error, or when nobody asks for more, no further item is begun.
    """
    workers = min(workers, MOST_WORKERS, cores())
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
