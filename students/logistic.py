"""The multinomial logistic objective of a linear head, minimised down a path of penalties.

Of rows x (centred, any one scale), with ``s`` the root-mean-square of their entries, it is

    mean cross-entropy(W x + b) + l2 s² / 2 ||W||²

L-BFGS (``students.minimise``) goes fast where curvatures are alike, so it is handed other
variables, displacements (U, v) from where it starts:

    W = W₀ + U L⁻¹,    L Lᵀ = a Σ + l2 s²,    b = b₀ + a^-½ v − θ diag(M (U L⁻¹)ᵀ)

with Σ the rows' covariance, C the number of classes and M the class means. With a = 1/C, L undoes
the Hessian at W = 0, which is Kronecker's product of (I − 11ᵀ/C)/C and Σ, and the penalty. Rows of
whose class the head is sure curve the objective no more: the mean of 1 − Σ p² over rows, which is
about twice the cross-entropy, falls from nearly 1, and a with it. When it has fallen to a quarter,
the descent goes on in new variables. Where the data can be told apart that takes 20 evaluations
instead of 100 and more; from the start, W = 0, the small a would be as bad.

The last term measures the bias of a class not at the origin but on the way to that class: its
curvature comes from rows that might be of the class, and their mean is about θ of the way to the
class mean (measured 0.4 to 0.9 over data sets; anything from 0.3 to 0.7 does about as well). It
saves a third to a half of the evaluations that L alone takes. Any a, L and θ have the same minimum.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float32, Float64, Int64
from scipy.linalg import cholesky, solve_triangular

from students.cross_entropy import CrossEntropy
from students.minimise import Seen, minimise

GAP = 1e-4  # converged: this share of the objective is the most that is left to gain
THETA = 0.6
FALL = 4.0  # the curvature falls by so much before other variables are worth their making, ...
STEPS = 6  # ... which throws away what these steps have learnt
SAMPLE = 4  # rows for each dimension that the covariance is taken from, ...
LEAST = 4096  # ... and no fewer than these
ROUNDING = 1e-6  # of the trace of a float32 covariance: below it an eigenvalue says nothing

Weight = Float64[np.ndarray, "classes dim"]
Bias = Float64[np.ndarray, " classes"]
Place = Float64[np.ndarray, "classes columns"]
Square = Float32[np.ndarray, "dim dim"]
Rows = Float32[np.ndarray, "rows dim"]


def descend(
    losses: CrossEntropy,
    *,
    counts: Int64[np.ndarray, " classes"],
    covariance: Square,
    square: float,
    l2: Sequence[float],
    max_iterations: int,
) -> Iterator[tuple[Weight, Bias, bool]]:
    """Minimum for each ``l2``, the first sought from zero, each later one from the one before.

    Weight, bias, and whether the objective lies within ``GAP`` of its least, as far as
    ``minimise`` can tell. ``losses`` are of rows with mean 0, ``counts`` of each class, none of
    them 0. About right will do for ``covariance``; ``square``, s², is part of the objective.
    """
    weight, bias = np.zeros((len(counts), len(covariance))), np.zeros(len(counts))
    # at zero all classes are equally likely, and what is left of the gradient are class sums
    _, slope, _ = losses(weight, bias)
    centres = -THETA * slope * (counts.sum() / counts)[:, None]
    for strength in l2:
        penalty = strength * (square or 1.0)
        weight, bias, converged = _lowest(
            losses, weight, bias, penalty, covariance, centres, max_iterations
        )
        yield weight, bias, converged


def mean_square(rows: Rows) -> float:
    """Mean of the squares of all entries."""
    # a float32 dot product of everything at once would be wrong in its fourth digit
    return float(np.einsum("nd,nd->n", rows, rows).sum(dtype=np.float64)) / rows.size


def sample_covariance(rows: Rows) -> Square:
    """Of centred rows all over the data, since neighbours are often alike."""
    wanted = max(LEAST, SAMPLE * rows.shape[1])
    some = rows[:: max(1, len(rows) // wanted)]
    found: Square = some.T @ some / np.float32(len(some))
    return found


def _lowest(
    losses: CrossEntropy,
    weight: Weight,
    bias: Bias,
    penalty: float,
    covariance: Square,
    centres: Weight,
    max_iterations: int,
) -> tuple[Weight, Bias, bool]:
    """Minimum for one penalty, sought from ``weight`` and ``bias``, and whether it was found."""
    left, doubt = max_iterations, _doubt(losses(weight, bias)[0])
    while True:
        share = doubt / len(bias)
        variables = _Variables(
            weight=weight,
            bias=bias,
            factor=_factor(covariance, share, penalty),
            root=float(share**-0.5),
            centres=centres,
        )
        place, converged, steps = _down(losses, variables, penalty, doubt, left)
        weight, bias = variables.head(place)
        left -= steps
        before, doubt = doubt, _doubt(losses(weight, bias)[0])
        if converged or left == 0 or doubt * FALL > before:
            return weight, bias, converged


def _doubt(loss: float) -> float:
    """About the mean of 1 - Σ p² over rows; at most 1, and never the 0 that float32 may say."""
    return min(1.0, max(1e-9, 2 * loss))


def _factor(covariance: Square, share: float, penalty: float) -> Square:
    """Lower triangular factor L of share * covariance + penalty = L Lᵀ."""
    curvature = covariance * np.float32(share)
    floor = max(penalty, ROUNDING * float(np.trace(curvature)))
    curvature[np.diag_indices_from(curvature)] += np.float32(floor)
    factor: Square = cholesky(curvature, lower=True, overwrite_a=True, check_finite=False)
    return factor


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class _Variables:
    """The place (U, v) as a head, and the slope by a head as the gradient by (U, v)."""

    weight: Weight
    bias: Bias
    factor: Square
    root: float
    centres: Weight

    def head(self, place: Place) -> tuple[Weight, Bias]:
        step = self._solved(place[:, :-1], transposed=False)
        step -= step.mean(axis=0)  # what all classes share changes no loss and costs penalty
        shift = self.root * place[:, -1] - np.einsum("cd,cd->c", self.centres, step)
        return self.weight + step, self.bias + shift - shift.mean()

    def gradient(self, by_weight: Weight, by_bias: Bias) -> Place:
        slope = by_weight - self.centres * by_bias[:, None]
        slope -= slope.mean(axis=0)
        return np.column_stack([self._solved(slope, transposed=True), self.root * by_bias])

    def _solved(self, rows: Weight, *, transposed: bool) -> Weight:
        """Rows times the inverse of the factor, or of its transpose."""
        found: Weight = solve_triangular(
            self.factor,
            rows.astype(np.float32).T,
            lower=True,
            trans=0 if transposed else 1,
            check_finite=False,
        ).T.astype(np.float64)
        return found


def _down(
    losses: CrossEntropy, variables: _Variables, penalty: float, doubt: float, max_iterations: int
) -> tuple[Place, bool, int]:
    """Go down in these variables, as long as they are any good."""
    last = doubt

    def objective(place: Place) -> Seen:
        nonlocal last
        weight, bias = variables.head(place)
        loss, by_weight, by_bias = losses(weight, bias)
        last = _doubt(loss)
        by_weight += penalty * weight
        # value - minimum <= ||gradient||² / 2c for a function that curves by c at least, which is
        # the penalty for the weight; for the bias, which has none, the guess of the variables
        limit = float(np.vdot(by_weight, by_weight)) / (2 * penalty)
        limit += float(np.vdot(by_bias, by_bias)) * variables.root**2 / 2
        value = loss + penalty / 2 * float(np.vdot(weight, weight))
        return Seen(value, variables.gradient(by_weight, by_bias), limit)

    def stale(steps: int) -> bool:
        return steps >= STEPS and last * FALL <= doubt

    start = np.zeros((len(variables.bias), variables.weight.shape[1] + 1))
    return minimise(objective, start, share=GAP, max_iterations=max_iterations, stale=stale)
