"""Which budgets are measured: those that were taught, those asked for, and the middles of gaps."""

from collections.abc import Callable, Iterable
from itertools import pairwise

_SAME = 1e-6  # of a share


def spread(
    first: Iterable[float], *, count: int, taken: Callable[[float], float]
) -> list[tuple[float, float]]:
    """At least ``count`` budgets and the shares they take, rising: ``first``, then middles of gaps.

    ``taken`` gives the share that a budget takes, at most itself and never falling. Of budgets
    that take one share the first is kept. Fewer come where every gap is without a share of its own.
    """
    found: dict[float, float] = {}

    def take(budget: float) -> bool:
        share = taken(budget)
        if any(abs(share - other) <= _SAME for other in found):
            return False
        found[share] = budget
        return True

    for budget in first:
        take(budget)
    closed: set[tuple[float, float]] = set()
    while len(found) < count:
        gaps = [gap for gap in pairwise(sorted(found)) if gap not in closed]
        if not gaps:
            break
        low, high = max(gaps, key=lambda gap: (gap[1] - gap[0], gap))
        # halves, then quarters: a coarse path may have a share in one of them alone
        middles = (low + (high - low) * part for part in (0.5, 0.75, 0.25))
        if not any(take(middle) for middle in middles):
            closed.add((low, high))
    return [(found[share], share) for share in sorted(found)]
