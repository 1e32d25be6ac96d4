"""The smallest budget that keeps accuracy: chosen on validation rows, shown with confidence.

From the largest budget down, each is certified to lose at most the tolerance, and the first that
is not ends the sequence: whatever is picked, the chance of picking one that loses more is at most
5 % (``distill.certify.fixed_sequence``).
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from distill.certify import WITHIN, certify, fixed_sequence, losses
from distill.findings import Certificate


class Choice(NamedTuple):
    """Places in the list of budgets, None where none will do, and what each of them shows."""

    shown: int | None  # with 95 % confidence, as all larger ones
    estimated: int | None  # by its mean loss, as all larger ones
    certificates: tuple[Certificate, ...]


def pick(
    dense: Bool[np.ndarray, " rows"],
    hits: Bool[np.ndarray, "points seeds rows"],
    shares: Sequence[float],
    *,
    tolerance: float,
) -> Choice:
    """Choose among points whose ``shares`` of FLOPs rise; ``ValueError`` where they do not."""
    if list(shares) != sorted(set(shares)) or len(shares) != len(hits):
        raise ValueError(f"shares of FLOPs rise from point to point, got {list(shares)}")
    downward = range(len(shares) - 1, -1, -1)
    lost = [losses(dense, point) for point in hits]
    tests = (partial(certify, lost[at], tolerance=tolerance) for at in downward)
    found = dict(zip(downward, fixed_sequence(tests), strict=True))
    return Choice(
        shown=_lowest(downward, [found[at].verdict == WITHIN for at in downward]),
        estimated=_lowest(downward, [found[at].loss <= tolerance for at in downward]),
        certificates=tuple(found[at] for at in range(len(shares))),
    )


def _lowest(places: Sequence[int], held: Sequence[bool]) -> int | None:
    """The last place before the first that does not hold."""
    kept = None
    for place, holds in zip(places, held, strict=True):
        if not holds:
            break
        kept = place
    return kept
