"""Which ranks a step of training sees: pure functions of (step, seed), so that resuming is exact.

What is drawn are places in a list of rank settings, the highest first: one rank for all layers, or
points of a path. Place 0 is the anchor, which every step trains (arXiv 2509.17874, section 4);
places below it are variants. Nothing is remembered between steps.
"""

from collections.abc import Callable

import numpy as np

from students.errors import nearest
from students.nested.errors import NestedError

_STREAM = 0x6E657374  # keeps these draws apart from others made of the same seed

Places = tuple[int, ...]  # the anchor's first, then the variants', none twice


def uniform(step: int, *, count: int, seed: int) -> Places:
    """The anchor and one variant of the ``count - 1``, all as likely."""
    return _anchor_and_one(step, among=count - 1, seed=seed)


def widening(step: int, *, count: int, seed: int, steps: int, over: float) -> Places:
    """The anchor and one of the variants open so far (``variants_open``), all as likely."""
    among = variants_open(step, count=count, steps=steps, over=over)
    return _anchor_and_one(step, among=among, seed=seed)


def sandwich(step: int, *, count: int, seed: int) -> Places:
    """The anchor, the lowest, and one in between (Yu & Huang, arXiv 1903.05134)."""
    if count <= 2:
        return tuple(range(count))
    return (0, 1 + _below(count - 2, step=step, seed=seed), count - 1)


def every(*, count: int) -> Places:
    """All of them: as many passes as there are settings, and none waits for its draw."""
    return tuple(range(count))


def variants_open(step: int, *, count: int, steps: int, over: float) -> int:
    """How many of the ``count - 1`` variants, the highest first, step ``step`` (from 0) may draw.

    1 + floor((count - 2) step / (over steps)), never more than there are: the first step knows the
    highest variant alone, and the lowest joins after the share ``over`` of all ``steps``.
    """
    if count == 1:
        return 0
    widest = max(1, round(over * steps))  # whole steps, so that the rest is exact
    return count - 1 if step >= widest else 1 + (count - 2) * step // widest


def _anchor_and_one(step: int, *, among: int, seed: int) -> Places:
    return (0, 1 + _below(among, step=step, seed=seed)) if among else (0,)


def _below(count: int, *, step: int, seed: int) -> int:
    """A number of 0 .. count - 1, all as likely to within 2⁻⁶⁴ count."""
    # NumPy promises the numbers of a SeedSequence for ever, those of a generator it does not
    drawn = np.random.SeedSequence((_STREAM, seed, step)).generate_state(1, np.uint64)
    return int(drawn[0]) % count


SAMPLINGS = ("uniform", "widening", "sandwich", "every")


def sampler(
    sampling: str, *, count: int, seed: int, steps: int, over: float
) -> Callable[[int], Places]:
    """The named sampling as a function of the step alone; ``over`` is of "widening" only.

    ``NestedError`` for a name there is not, for no settings, for no steps, and for a share outside
    (0, 1].
    """
    if sampling not in SAMPLINGS:
        raise NestedError(f"no sampling of ranks named {sampling!r}{nearest(sampling, SAMPLINGS)}")
    if count < 1 or steps < 1:
        raise NestedError(
            f"ranks are drawn from at least 1 setting for at least 1 step, got {count} and {steps}"
        )
    if not 0 < over <= 1:
        raise NestedError(f"ranks widen over a share of the steps, in (0, 1], got {over}")
    if sampling == "uniform":
        return lambda step: uniform(step, count=count, seed=seed)
    if sampling == "sandwich":
        return lambda step: sandwich(step, count=count, seed=seed)
    if sampling == "every":
        return lambda _: every(count=count)
    return lambda step: widening(step, count=count, seed=seed, steps=steps, over=over)
