"""Limited-memory BFGS for smooth convex functions of one NumPy array.

Nocedal & Wright, Numerical Optimization (2nd ed.), algorithms 7.4 and 7.5, with a backtracking
line search: the curvature that BFGS asks for holds by itself where the function is convex. The
variables should be such that curvatures are alike, and about 1 where it starts.

When to stop: a function that curves at least by c lies at most ||gradient||² / 2c above its
minimum. Half of the least curvature met on the last steps stands in for c, since late steps go
where the curvature is low. The caller's own limit, which holds for certain and is often ten times
too large, is asked too: it must be no more than ``LOOSE`` times what is wanted.
"""

import math
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

HISTORY = 10  # pairs of steps and gradient changes that stand in for the Hessian
LONGEST = 2.0  # the first step is no longer, for nothing is known of the curvature
SUFFICIENT = 1e-4  # share of the promised decrease that a step must bring (Armijo)
NOISE = 1e-7  # relative rounding of a mean over float32 products: no change below it counts
CAUTION = 0.5
FEW = 3  # fewer pairs say too little of the least curvature
LOOSE = 5.0

Vector = Float64[np.ndarray, "..."]
Pair = tuple[Vector, Vector, float]


class Seen(NamedTuple):
    """What a function says of a place: its value, above 0, and how that can change."""

    value: float
    gradient: Vector
    limit: float  # no more than this is left to gain

    def near(self, pairs: deque[Pair], share: float) -> bool:
        """Whether at most ``share`` of the value is left to gain, as far as that can be told."""
        wanted = share * self.value
        if self.limit <= wanted or len(pairs) < FEW:
            return self.limit <= wanted
        least = min(curvature / float(np.vdot(step, step)) for step, _, curvature in pairs)
        left = float(np.vdot(self.gradient, self.gradient)) / (2 * CAUTION * least)
        return left <= wanted and self.limit <= LOOSE * wanted


def minimise(
    function: Callable[[Vector], Seen],
    start: Vector,
    *,
    share: float,
    max_iterations: int,
    stale: Callable[[int], bool] = lambda _: False,
) -> tuple[Vector, bool, int]:
    """Place at which at most ``share`` of the value is left to gain, whether it is that, and steps.

    After ``max_iterations`` steps, when no step decreases the value by more than rounding, or when
    ``stale``, asked after every step with their number, says that other variables are wanted, the
    best place so far is returned with ``False``.
    """
    place, seen = start.copy(), function(start)
    pairs: deque[Pair] = deque(maxlen=HISTORY)
    for steps in range(max_iterations):
        if seen.near(pairs, share):
            return place, True, steps
        if stale(steps):
            return place, False, steps
        direction = _direction(seen.gradient, pairs)
        length = 1.0 if pairs else min(1.0, LONGEST / float(np.linalg.norm(seen.gradient)))
        slope = float(np.vdot(seen.gradient, direction))
        if not math.isfinite(slope):  # nothing is known of what lies ahead
            return place, False, steps
        while True:
            step = length * direction
            found = function(place + step)
            if found.value <= seen.value + SUFFICIENT * length * slope + NOISE * seen.value:
                break
            length /= 2
            if -slope * length <= NOISE * seen.value:
                return place, False, steps
        change = found.gradient - seen.gradient
        curvature = float(np.vdot(step, change))
        if curvature > 0:
            pairs.append((step, change, curvature))
        place, seen = place + step, found
    return place, seen.near(pairs, share), max_iterations


def _direction(gradient: Vector, pairs: deque[Pair]) -> Vector:
    """Minus the inverse Hessian, as the pairs tell it, times the gradient (two-loop recursion)."""
    direction = -gradient
    shares = []
    for step, change, curvature in reversed(pairs):
        share = float(np.vdot(step, direction)) / curvature
        direction -= share * change
        shares.append(share)
    if pairs:
        _, change, curvature = pairs[-1]
        direction *= curvature / float(np.vdot(change, change))
    for (step, change, curvature), share in zip(pairs, reversed(shares), strict=True):
        direction += (share - float(np.vdot(change, direction)) / curvature) * step
    return direction
