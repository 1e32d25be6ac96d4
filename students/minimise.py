"""Limited-memory BFGS for smooth convex functions of one NumPy array.

Nocedal & Wright, Numerical Optimization (2nd ed.), algorithms 7.4 and 7.5, with a backtracking
line search: the curvature that BFGS asks for holds by itself where the function is convex.

How much is left to gain: a function that curves at least by c lies at most ||gradient||² / 2c
above its minimum. The least curvature met on the last steps stands in for c, since late steps go
where the curvature is low: half of it, or, while steps are few, a hundredth. Variables should be
such that curvatures are alike and about 1 where it starts.
"""

from collections import deque
from collections.abc import Callable

import numpy as np
from jaxtyping import Float64

HISTORY = 10  # pairs of steps and gradient changes that stand in for the Hessian
LONGEST = 2.0  # the first step is no longer, for nothing is known of the curvature
SUFFICIENT = 1e-4  # share of the promised decrease that a step must bring (Armijo)
NOISE = 1e-7  # relative rounding of a mean over float32 products: no change below it counts
FEW = 3  # steps that say little of the least curvature, ...
DOUBT = 0.01  # ... a share of which is taken until there are as many
CAUTION = 0.5  # and from then on

Vector = Float64[np.ndarray, "..."]
Pair = tuple[Vector, Vector, float]


def minimise(
    function: Callable[[Vector], tuple[float, Vector]],
    start: Vector,
    *,
    share: float,
    max_iterations: int,
) -> tuple[Vector, bool]:
    """Place at which at most ``share`` of the value is left to gain, and whether it was reached.

    ``function`` returns its value, above 0, and its gradient. After ``max_iterations`` steps, or
    when no step decreases the value by more than rounding, the best place so far is returned with
    ``False``.
    """
    place = start.copy()
    value, gradient = function(place)
    pairs: deque[Pair] = deque(maxlen=HISTORY)
    for _ in range(max_iterations):
        if _left(gradient, pairs) <= share * value:
            return place, True
        direction = _direction(gradient, pairs)
        length = 1.0 if pairs else min(1.0, LONGEST / float(np.linalg.norm(gradient)))
        slope = float(np.vdot(gradient, direction))
        while True:
            step = length * direction
            new_value, new_gradient = function(place + step)
            if new_value <= value + SUFFICIENT * length * slope + NOISE * value:
                break
            length /= 2
            if -slope * length <= NOISE * value:
                return place, False
        change = new_gradient - gradient
        curvature = float(np.vdot(step, change))
        if curvature > 0:
            pairs.append((step, change, curvature))
        place, value, gradient = place + step, new_value, new_gradient
    return place, _left(gradient, pairs) <= share * value


def _left(gradient: Vector, pairs: deque[Pair]) -> float:
    """What is left to gain, as far as the steps so far tell."""
    curvatures = [curvature / float(np.vdot(step, step)) for step, _, curvature in pairs]
    caution = CAUTION if len(pairs) >= FEW else DOUBT
    return float(np.vdot(gradient, gradient)) / (2 * caution * min(curvatures, default=1.0))


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
