"""Limited-memory BFGS for smooth convex functions of one NumPy array.

Nocedal & Wright, Numerical Optimization (2nd ed.), algorithms 7.4 and 7.5, with a backtracking
line search: the curvature that BFGS asks for holds by itself where the function is convex.
"""

from collections import deque
from collections.abc import Callable

import numpy as np
from jaxtyping import Float64

HISTORY = 20  # pairs of steps and gradient changes that stand in for the Hessian
SUFFICIENT = 1e-4  # share of the promised decrease that a step must bring (Armijo)
HALVINGS = 30
NOISE = 1e-7  # relative rounding of a mean over float32 products: no increase below it counts

Vector = Float64[np.ndarray, "..."]


def minimise(
    function: Callable[[Vector], tuple[float, Vector]],
    start: Vector,
    *,
    enough: Callable[[float, Vector], bool],
    max_iterations: int,
) -> tuple[Vector, bool]:
    """Place where ``enough(value, gradient)`` holds, and whether it was reached.

    ``function`` returns value and gradient. After ``max_iterations`` steps, or when no step
    decreases the value any more, the best place so far is returned with ``False``.
    """
    place = start.copy()
    value, gradient = function(place)
    pairs: deque[tuple[Vector, Vector, float]] = deque(maxlen=HISTORY)
    for _ in range(max_iterations):
        if enough(value, gradient):
            return place, True
        direction = _direction(gradient, pairs)
        length = 1.0 if pairs else min(1.0, 1.0 / float(np.linalg.norm(gradient)))
        slope = float(np.vdot(gradient, direction))
        for _halving in range(HALVINGS):
            step = length * direction
            new_value, new_gradient = function(place + step)
            if new_value <= value + SUFFICIENT * length * slope + NOISE * abs(value):
                break
            length /= 2
        else:
            return place, False
        change = new_gradient - gradient
        curvature = float(np.vdot(step, change))
        if curvature > 0:
            pairs.append((step, change, curvature))
        place, value, gradient = place + step, new_value, new_gradient
    return place, enough(value, gradient)


def _direction(gradient: Vector, pairs: deque[tuple[Vector, Vector, float]]) -> Vector:
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
