"""The full head of a training part: what every other head is compared with.

Where the rows fit into memory it is fitted there. Where they do not, the same objective is
minimised over the rows as they are read: with mean, scale and covariance known from the moments,
the descent goes by [U, b] with W = U A, A the inverse square root of covariance + l2, in which the
objective curves about alike in all directions, so that it takes tens of readings and not hundreds.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import scipy.optimize
from jaxtyping import Float32, Float64, Int64

from distill.sweeping.rows import Rows
from distill.sweeping.side_by_side import threads_for
from projections import Moments
from students import FittedHead, fit_path

NEVER = -1e4  # bias of a class without a row: finite, yet never the largest
ENOUGH = 1e-6  # relative decrease of the objective below which the descent ends

Readings = Callable[
    [], Iterator[tuple[Float32[np.ndarray, "block dim"], Int64[np.ndarray, " block"]]]
]


def full_heads(
    rows: Rows,
    labels: Int64[np.ndarray, " rows"],
    chosen: Int64[np.ndarray, " fit"],
    moments: Moments,
    *,
    l2: Sequence[float],
    max_iterations: int,
) -> tuple[FittedHead, ...]:
    """One head for each l2, largest first, fitted on the chosen rows, whose moments are given."""
    if rows.fits:
        with threads_for(len(chosen) * moments.classes):
            return fit_path(
                rows.all()[chosen],
                labels[chosen],
                classes=moments.classes,
                l2=l2,
                max_iterations=max_iterations,
            )

    def readings() -> Iterator[
        tuple[Float32[np.ndarray, "block dim"], Int64[np.ndarray, " block"]]
    ]:
        for start, features in rows.blocks():
            first, last = np.searchsorted(chosen, (start, start + len(features)))
            numbers = chosen[first:last]
            yield features[numbers - start], labels[numbers]

    return fit_streamed(readings, moments, l2=l2, max_iterations=max_iterations)


def logits_of(
    heads: Sequence[FittedHead], rows: Rows, numbers: Int64[np.ndarray, " some"]
) -> list[Float32[np.ndarray, "some classes"]]:
    """Logits of each head for the rows of these ascending numbers, read once."""
    found = [np.empty((len(numbers), len(head.bias)), np.float32) for head in heads]
    for start, features in rows.blocks():
        first, last = np.searchsorted(numbers, (start, start + len(features)))
        block = features[numbers[first:last] - start]
        for head, into in zip(heads, found, strict=True):
            into[first:last] = head.logits(block)
    return found


def fit_streamed(
    readings: Readings, moments: Moments, *, l2: Sequence[float], max_iterations: int
) -> tuple[FittedHead, ...]:
    """Multinomial logistic heads on rows that are read anew for every step; largest l2 first.

    The objective is that of ``students.fit_path``. A class without a row is never predicted.
    """
    present = np.flatnonzero(moments.counts)
    place = np.full(moments.classes, -1)
    place[present] = np.arange(len(present))
    covariance, mean = moments.covariance, moments.mean
    scale = float(np.sqrt(np.trace(covariance) / moments.dim)) or 1.0
    variances, directions = np.linalg.eigh(covariance / scale**2)
    weight, bias = np.zeros((len(present), moments.dim)), np.zeros(len(present))
    heads = []
    for strength in sorted(l2, reverse=True):
        root = np.sqrt(np.maximum(variances, 0.0) + strength)
        forth, back = (directions / root) @ directions.T, (directions * root) @ directions.T

        def objective(
            flat: Float64[np.ndarray, " numbers"], forth: np.ndarray = forth, l2: float = strength
        ) -> tuple[float, Float64[np.ndarray, " numbers"]]:
            steps = flat.reshape(len(present), -1)
            weight, bias = steps[:, :-1] @ forth, steps[:, -1]
            value, slope, lift = _cross_entropy(readings, weight / scale, bias, mean, place)
            slope = slope / scale / moments.rows + l2 * weight
            both = np.hstack([slope @ forth, lift[:, None] / moments.rows])
            return value / moments.rows + l2 / 2 * float(np.vdot(weight, weight)), both.ravel()

        found = scipy.optimize.minimize(
            objective,
            np.hstack([weight @ back, bias[:, None]]).ravel(),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": max_iterations, "ftol": ENOUGH, "maxcor": 20},
        )
        steps = found.x.reshape(len(present), -1)
        weight, bias = steps[:, :-1] @ forth, steps[:, -1]
        every = np.zeros((moments.classes, moments.dim))
        every[present] = weight / scale
        shifts = np.full(moments.classes, NEVER)
        shifts[present] = bias - every[present] @ mean
        heads.append(
            FittedHead(
                weight=every.astype(np.float32),
                bias=shifts.astype(np.float32),
                l2=float(strength),
                validation_accuracy=0.0,
                converged=bool(found.success),
            )
        )
    return tuple(heads)


def _cross_entropy(
    readings: Readings,
    weight: Float64[np.ndarray, "present dim"],
    bias: Float64[np.ndarray, " present"],
    mean: Float64[np.ndarray, " dim"],
    place: Int64[np.ndarray, " classes"],
) -> tuple[float, Float64[np.ndarray, "present dim"], Float64[np.ndarray, " present"]]:
    """Sum over rows, and its gradients by weight and bias."""
    value, slope, lift = 0.0, np.zeros_like(weight), np.zeros_like(bias)
    narrow, centre = weight.T.astype(np.float32), mean.astype(np.float32)
    for features, labels in readings():
        deviations, targets = features - centre, place[labels]
        which = np.arange(len(targets))
        logits = (deviations @ narrow).astype(np.float64) + bias
        logits -= logits.max(axis=1, keepdims=True)
        value -= float(logits[which, targets].sum())
        chances = np.exp(logits, out=logits)
        totals = chances.sum(axis=1)
        value += float(np.log(totals).sum())
        chances /= totals[:, None]
        chances[which, targets] -= 1
        slope += chances.T.astype(np.float32) @ deviations
        lift += chances.sum(axis=0)
    return value, slope, lift
