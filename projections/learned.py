"""A rank-k bottleneck trained under the classification loss: the upper baseline.

With x' = (x - mean) / scale as in ``ridge``, a weight W = V Pᵀ of rank k and a bias b minimise

    mean cross-entropy(W x' + b) + l2 / 2 |W|²        (the bias is not penalised),

the objective of a full-width logistic head, over the heads that k numbers can carry. The descent is
L-BFGS from the truncated full head. The objective is not convex: each seed starts a little beside,
and so tells how much the place it ends in depends on that. What comes out is W, and the map is W
truncated as any trained head is, by ``head_svd``: k numbers of falling weight, further ones filled
up.
"""

from dataclasses import replace
from typing import Any, ClassVar, final

import numpy as np
import scipy.optimize
from jaxtyping import Float, Float32, Float64, Int64
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from projections.base import ProjectionError, at_least
from projections.fitted import FittedProjection
from projections.gathering import gather_moments
from projections.head_svd import head_solution
from projections.moments import Moments
from projections.ridge import ridge_head

ASIDE = 0.01  # the seeded step away from the start, relative to it
BLOCK = 2048  # rows of logits at a time
HISTORY, ENOUGH = 20, 1e-7  # steps that L-BFGS remembers; a relative decrease that ends it

Rows = Float32[np.ndarray, "rows dim"]


@final
class LearnedProjection(FittedProjection):
    """The k numbers that a bottleneck of that width learns to classify by.

    ``objective_`` is what the training came to. ``l2`` penalises the weight as in a full-width
    head; a map of other rows, ``seed`` or settings is another map.
    """

    kind: ClassVar[str] = "learned"
    l2: float
    max_iterations: int

    # Any: by scikit-learn's rule whatever is set is taken here, and checked by fit.
    def __init__(
        self,
        n_components: Any = None,
        *,
        seed: Any = 0,
        l2: Any = 1e-3,
        max_iterations: Any = 200,
    ) -> None:
        self.n_components = n_components
        self.seed = seed
        self.l2 = l2
        self.max_iterations = max_iterations

    def fit(self, X: Any, y: Any = None) -> "LearnedProjection":
        """Train on these rows, from the ridge head of their moments."""
        X, y = validate_data(self, X, y, dtype=[np.float32, np.float64])
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        moments = gather_moments([(X, codes)], classes=len(self.classes_))
        return self.fit_rows(X, codes, moments=moments, head=None)

    def fit_rows(
        self,
        features: Float[np.ndarray, "rows dim"],
        labels: Int64[np.ndarray, " rows"],
        *,
        moments: Moments,
        head: Float[np.ndarray, "classes dim"] | None,
    ) -> "LearnedProjection":
        """Train on rows whose moments are at hand, from a trained full head or the ridge head."""
        if len(features) != moments.rows or features.shape[1] != moments.dim:
            raise ProjectionError(
                f"features of shape {features.shape} came with the moments of {moments.rows} rows "
                f"of width {moments.dim}: both must be of the training rows"
            )
        self._check_two_classes(moments)
        present = np.flatnonzero(moments.counts)
        width = self._wanted(moments, len(present) - 1)
        weight = ridge_head(moments, self._penalty())[0] if head is None else head
        scale = np.sqrt(float(np.trace(moments.covariance)) / moments.dim) or 1.0
        start = _start(
            moments, weight, min(width, len(present) - 1), at_least("seed", self.seed, 0)
        )
        trained, self.objective_ = _descend(
            ((features - moments.mean.astype(np.float32)) / np.float32(scale)).astype(
                np.float32, copy=False
            ),
            np.searchsorted(present, labels),
            (start[0] * scale, start[1][present], np.log(moments.counts[present] / moments.rows)),
            l2=self._penalty(),
            max_iterations=at_least("max_iterations", self.max_iterations, 1),
        )
        whole = np.zeros(moments.means.shape)
        whole[present] = trained / scale
        found = head_solution(moments, whole, width)
        facts = {"l2": float(self.l2), "max_iterations": int(self.max_iterations)}
        self._keep(moments.mean, replace(found, facts=facts))
        return self

    def _penalty(self) -> float:
        if not self.l2 > 0:
            raise ProjectionError(f"l2 must be above 0, got {self.l2}")
        return float(self.l2)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags


def learn_projection(
    features: Float[np.ndarray, "rows dim"],
    labels: Int64[np.ndarray, " rows"],
    *,
    classes: int,
    dim_out: int,
    head: Float[np.ndarray, "classes dim"] | None,
    moments: Moments,
    seed: int,
    l2: float,
    max_iterations: int,
) -> LearnedProjection:
    """Train the map to ``dim_out`` numbers on these rows, whose moments are at hand.

    ``head`` is the trained full weight to start from, or None for the ridge head. Holds one float32
    copy of the features. ``ProjectionError`` for rows, labels, moments and head that do not belong
    together, and for fewer than two classes.
    """
    if moments.classes != classes:
        raise ProjectionError(f"the moments are of {moments.classes} classes, not {classes}")
    counts = np.bincount(labels, minlength=classes) if labels.min(initial=0) >= 0 else None
    if counts is None or not np.array_equal(counts, moments.counts):
        raise ProjectionError(
            "the labels are not those of the moments: both must be of the training rows"
        )
    learned = LearnedProjection(dim_out, seed=seed, l2=l2, max_iterations=max_iterations)
    return learned.fit_rows(features, labels, moments=moments, head=head)


def _start(
    moments: Moments, weight: Float[np.ndarray, "classes dim"], width: int, seed: int
) -> tuple[Float64[np.ndarray, "dim width"], Float64[np.ndarray, "classes width"]]:
    """P and V of the truncated head: p_j = Wᵀu_j, so that W S p_j = s_j² u_j; and a step aside."""
    found = head_solution(moments, weight, width)
    seen = np.where(moments.counts[:, None] > 0, weight, 0.0)
    seen = seen - seen.sum(axis=0) / np.count_nonzero(moments.counts)
    mixing = np.zeros((moments.classes, width))
    used = slice(0, min(found.rank, width))
    mixing[:, used] = seen @ moments.covariance @ found.matrix[:, used] / found.strengths[used]
    size = ASIDE * np.sqrt(np.mean(found.matrix**2))
    aside = np.random.default_rng(seed).standard_normal(found.matrix.shape) * size
    return found.matrix + aside, mixing


def _descend(
    rows: Rows,
    targets: Int64[np.ndarray, " rows"],
    start: tuple[
        Float64[np.ndarray, "dim width"],
        Float64[np.ndarray, "classes width"],
        Float64[np.ndarray, " classes"],
    ],
    *,
    l2: float,
    max_iterations: int,
) -> tuple[Float64[np.ndarray, "classes dim"], float]:
    """Weight V Pᵀ where the objective of (P, V, b) is least, and the objective there."""
    directions, mixing, bias = start
    # P and V of one size: the product does not change, the descent is shorter
    balance = np.sqrt((np.linalg.norm(mixing) or 1.0) / (np.linalg.norm(directions) or 1.0))
    shapes = directions.shape, mixing.shape
    ends = np.cumsum([directions.size, mixing.size])

    def parts(flat: Float64[np.ndarray, " parameters"]) -> tuple[np.ndarray, ...]:
        first, second, bias = np.split(flat, ends)
        return first.reshape(shapes[0]), second.reshape(shapes[1]), bias

    def flat_objective(
        flat: Float64[np.ndarray, " parameters"],
    ) -> tuple[float, Float64[np.ndarray, " parameters"]]:
        value, gradients = _objective(rows, targets, l2, *parts(flat))
        return value, np.concatenate([gradient.ravel() for gradient in gradients])

    found = scipy.optimize.minimize(
        flat_objective,
        np.concatenate([(directions * balance).ravel(), (mixing / balance).ravel(), bias]),
        jac=True,
        method="L-BFGS-B",
        options={"maxcor": HISTORY, "maxiter": max_iterations, "ftol": ENOUGH, "gtol": 0.0},
    )
    P, V, _ = parts(found.x)
    return V @ P.T, float(found.fun)


def _objective(
    rows: Rows,
    targets: Int64[np.ndarray, " rows"],
    l2: float,
    P: Float64[np.ndarray, "dim width"],
    V: Float64[np.ndarray, "classes width"],
    b: Float64[np.ndarray, " classes"],
) -> tuple[float, list[np.ndarray]]:
    """Value and gradients by P, V and b: products with rows are float32, sums float64."""
    down, up, shift = (array.astype(np.float32) for array in (P, V, b))
    gradients = [np.zeros(array.shape) for array in (P, V, b)]
    value = 0.0
    for first in range(0, len(rows), BLOCK):
        block, wanted = rows[first : first + BLOCK], targets[first : first + BLOCK]
        at_wanted = np.arange(len(block)), wanted
        numbers = block @ down
        logits = numbers @ up.T + shift
        logits -= logits.max(axis=1, keepdims=True)
        value -= float(logits[at_wanted].sum(dtype=np.float64))
        chances = np.exp(logits, out=logits)
        totals = chances.sum(axis=1)
        value += float(np.log(totals.astype(np.float64)).sum())
        chances /= totals[:, None]
        chances[at_wanted] -= 1
        gradients[0] += block.T @ (chances @ up)
        gradients[1] += chances.T @ numbers
        gradients[2] += chances.sum(axis=0, dtype=np.float64)
    gradients = [gradient / len(rows) for gradient in gradients]
    inner, outer = P.T @ P, V.T @ V  # |V Pᵀ|² is the trace of their product
    gradients[0] += l2 * (P @ outer)
    gradients[1] += l2 * (V @ inner)
    return value / len(rows) + l2 / 2 * float(np.vdot(inner, outer)), gradients
