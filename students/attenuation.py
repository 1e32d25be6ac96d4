"""Undoing the shrinkage of least squares: what a frozen head wants to read, from what it gets.

A student that cannot tell all of z from x answers nearer to the mean than z lies (regression
dilution: Fuller, 1987, Measurement Error Models, section 1.1), and a head that was fitted on z then
misfires. On held-out rows z ≈ g A + b is fitted by ridge regression towards a multiple of the
identity, and a temperature for the logits that follow (Guo et al., 2017, arXiv:1706.04599). Both
are folded into the last layer: the student costs what it did.

How much is believed of so few rows is judged on rows a fit did not see, in ``FOLDS`` parts: the
strength of the ridge by squared error, then the temperature and whether any of it is worth having
by cross-entropy.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import scipy.optimize
from jaxtyping import Float, Float32, Float64, Int64

from students.errors import HeadError

FOLDS = 5
RIDGES = (np.inf, 10.0, 1.0, 0.1, 1e-2, 1e-3, 1e-4)  # of g's mean variance; inf: only slope · I
HOTTEST = 20.0  # temperatures lie between this and one over it

Rows = Float64[np.ndarray, "rows k"]
Way = tuple[Float64[np.ndarray, "k k"], Float64[np.ndarray, " k"]]


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Attenuation:
    """z ≈ g @ matrix + shift, logits over ``temperature``; and what the held-out rows showed."""

    matrix: Float64[np.ndarray, "k k"]
    shift: Float64[np.ndarray, " k"]
    temperature: float
    slope: float  # of z on g, over all numbers: what g is to be multiplied by
    kept: float  # of g on z: the share of z's deviations that g shows; 1 would be all
    before: float  # cross-entropy of the held-out rows through the head as it was
    after: float  # and as it is folded, never above ``before``

    def fold(
        self, weight: Float[np.ndarray, "classes k"], bias: Float[np.ndarray, " classes"]
    ) -> tuple[Float32[np.ndarray, "classes k"], Float32[np.ndarray, " classes"]]:
        """Weight and bias that read g as these read z."""
        wide = weight.astype(np.float64)
        turned = wide @ self.matrix.T / self.temperature
        moved = (wide @ self.shift + bias) / self.temperature
        return turned.astype(np.float32), moved.astype(np.float32)


def fit_attenuation(
    found: Float[np.ndarray, "rows k"],
    targets: Float[np.ndarray, "rows k"],
    labels: Int64[np.ndarray, " rows"],
    *,
    weight: Float[np.ndarray, "classes k"],
    bias: Float[np.ndarray, " classes"],
) -> Attenuation:
    """Fit on held-out rows: the student's ``found``, the ``targets``, and a head on the targets.

    Where neither the map nor the temperature lowers the cross-entropy, the identity comes back.
    ``HeadError`` for no rows, rows that are not finite, and labels of none of the head's classes.
    """
    _check(found, targets, labels, classes=len(bias))
    g, z = found.astype(np.float64), targets.astype(np.float64)
    head = weight.astype(np.float64), bias.astype(np.float64)
    k = g.shape[1]
    same = np.eye(k), np.zeros(k)
    before = _cross_entropy(_logits(g, same, head), labels, 1.0)
    # (held-out cross-entropy, map, temperature), the plainest first: of equals it is taken
    choices = [(before, same, 1.0)]
    heat, loss = _temperature(_logits(g, same, head), labels)
    choices.append((loss, same, heat))
    if len(g) >= FOLDS and float(np.var(g, axis=0).sum()) > 0:
        ridge, unseen = _best_ridge(g, z)
        heat, loss = _temperature(unseen @ head[0].T + head[1], labels)
        choices.append((loss, _fitted(g, z, [ridge])[ridge], heat))
    for _, (matrix, shift), heat in sorted(choices, key=lambda choice: choice[0]):
        after = _cross_entropy(_logits(g, (matrix, shift), head), labels, heat)
        if after <= before:  # on the rows at hand too, which the identity always is
            break
    return Attenuation(
        matrix=matrix,
        shift=shift,
        temperature=heat,
        slope=_slope(g, z),
        kept=_slope(z, g),
        before=before,
        after=after,
    )


def _best_ridge(g: Rows, z: Rows) -> tuple[float, Rows]:
    """The ridge whose maps guess rows they were not fitted on best, and those guesses."""
    fold = np.arange(len(g)) % FOLDS
    guesses = {ridge: np.empty_like(z) for ridge in RIDGES}
    for number in range(FOLDS):
        seen, unseen = fold != number, fold == number
        for ridge, (matrix, shift) in _fitted(g[seen], z[seen], RIDGES).items():
            guesses[ridge][unseen] = g[unseen] @ matrix + shift
    best = min(guesses, key=lambda ridge: float(np.square(guesses[ridge] - z).sum()))
    return best, guesses[best]


def _fitted(g: Rows, z: Rows, ridges: Sequence[float]) -> dict[float, Way]:
    """For each ridge, matrix and shift of the ridge regression of z on g towards slope · I."""
    k = g.shape[1]
    mean, centre = g.mean(axis=0), z.mean(axis=0)
    straight = _slope(g, z) * np.eye(k)
    apart = g - mean
    squares, left = apart.T @ apart, apart.T @ (z - centre - apart @ straight)
    level = float(np.trace(squares)) / k
    found = {}
    for ridge in ridges:
        matrix = straight
        if np.isfinite(ridge) and level > 0:
            matrix = straight + np.linalg.solve(squares + ridge * level * np.eye(k), left)
        found[ridge] = matrix, centre - mean @ matrix
    return found


def _slope(of: Rows, to: Rows) -> float:
    """Least squares slope of ``to`` on ``of``, one number for all columns; 1 if nothing varies."""
    apart = of - of.mean(axis=0)
    squares = float(np.vdot(apart, apart))
    return float(np.vdot(apart, to)) / squares if squares > 0 else 1.0


def _temperature(
    logits: Float64[np.ndarray, "rows classes"], labels: Int64[np.ndarray, " rows"]
) -> tuple[float, float]:
    """The temperature of the least cross-entropy, and that: it falls and rises once in log T."""
    found = scipy.optimize.minimize_scalar(
        lambda heat: _cross_entropy(logits, labels, float(np.exp(heat))),
        bounds=(-np.log(HOTTEST), np.log(HOTTEST)),
        method="bounded",
        options={"xatol": 1e-4},
    )
    return float(np.exp(found.x)), float(found.fun)


def _logits(
    g: Rows,
    way: Way,
    head: tuple[Float64[np.ndarray, "classes k"], Float64[np.ndarray, " classes"]],
) -> Float64[np.ndarray, "rows classes"]:
    logits: Float64[np.ndarray, "rows classes"] = (g @ way[0] + way[1]) @ head[0].T + head[1]
    return logits


def _cross_entropy(
    logits: Float64[np.ndarray, "rows classes"],
    labels: Int64[np.ndarray, " rows"],
    temperature: float,
) -> float:
    scaled = (logits - logits.max(axis=1, keepdims=True)) / temperature
    right = scaled[np.arange(len(labels)), labels]
    return float((np.log(np.exp(scaled).sum(axis=1)) - right).mean())


def _check(
    found: Float[np.ndarray, "rows k"],
    targets: Float[np.ndarray, "rows k"],
    labels: Int64[np.ndarray, " rows"],
    *,
    classes: int,
) -> None:
    if not len(labels):
        raise HeadError("there are no held-out rows to undo the shrinkage on")
    for what, rows in (("student's", found), ("targets'", targets)):
        if not np.isfinite(rows).all():
            raise HeadError(f"the {what} held-out rows hold NaN or infinite numbers")
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        raise HeadError(
            f"held-out row {wrong[0]} has label {labels[wrong[0]]}, which is not one of the "
            f"head's {classes} classes; train the head on the same data"
        )
