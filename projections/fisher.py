"""The trained full head, truncated by what the classes' chances would lose: the fisher map.

Of a teacher's chances p and a guess of its features that is off by e, the divergence of the classes
is to second order T² KL = ½ eᵀ F e with F = E[Wᵀ (diag p - p pᵀ) W], Fisher's information of the
features on the class (Amari, 1998, doi:10.1162/089976698300017746), at the temperature T of
distillation: p is the softmax of logits / T. The k numbers that lose least of it, for rows of
covariance S, lie along the leading eigenvectors of S^½ F S^½. With A = E[diag p - p pᵀ] that is
the head A^½ W truncated in the features' metric, as ``head_svd`` truncates W: logits are weighed by
how much of the classes depends on them, instead of all alike. What holds there holds here: there
are C - 1 such numbers, the further ones are principal directions of what is left.

The numbers come by falling weight, so that the first p of them are the map to p numbers; and each
is as long as it counts: with all C - 1 of them the squared distance of two rows is eᵀ F e.

A trained head is nearly sure of the rows it was trained on, and at T = 1 all of F comes from a few
of them: with 6 or 12 of 192 to 384 numbers, heads on them were 4 to 13 points worse than on those
of ``head_svd``; at T = 2 they are as good (measured on CLINC150 and Caltech-101). The larger T, the
more alike the two maps.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, ClassVar, final

import numpy as np
import scipy.linalg
from jaxtyping import Float, Float64
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from projections.base import ProjectionError
from projections.discriminant import shrunk_within
from projections.fitted import NestedProjection, Solution
from projections.gathering import gather_moments
from projections.head_svd import check_head, truncated
from projections.moments import Moments

NEVER = -1e30  # logit of a class without rows: finite, and its chance is 0

Logits = Float[np.ndarray, "_ _"]  # (rows, classes): axes without names, as blocks differ


def class_information(
    logits: Iterable[Logits], *, classes: int, temperature: float
) -> Float64[np.ndarray, "classes classes"]:
    """E[diag p - p pᵀ] over all rows, p = softmax(logits / temperature), in one pass.

    ``ProjectionError`` for blocks of other classes, logits that are not finite, and no rows.
    """
    rows, shares, together = 0, np.zeros(classes), np.zeros((classes, classes))
    for block in logits:
        if block.shape[1] != classes:
            raise ProjectionError(
                f"logits of {block.shape[1]} classes came with the head of {classes}"
            )
        if not np.isfinite(block).all():
            raise ProjectionError("the head's logits are not finite: train it again")
        p = np.exp((block - block.max(axis=1, keepdims=True)).astype(np.float64) / temperature)
        p /= p.sum(axis=1, keepdims=True)
        rows += len(p)
        shares += p.sum(axis=0)
        together += p.T @ p
    if not rows:
        raise ProjectionError("there are no logits of the train rows to take chances of")
    found: Float64[np.ndarray, "classes classes"] = (np.diag(shares) - together) / rows
    return found


def fisher_solution(
    moments: Moments,
    weight: Float[np.ndarray, "classes dim"],
    information: Float64[np.ndarray, "classes classes"],
    dim_out: int,
) -> Solution:
    """Truncate a head of this weight by its classes' information. Classes without rows are out."""
    check_head(moments, weight)
    present = np.flatnonzero(moments.counts)
    seen = weight[present].astype(np.float64)
    values, vectors = np.linalg.eigh(information[np.ix_(present, present)])
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    # what all classes share changes no chance: without it rounding has less to cancel
    return truncated(moments.covariance, root @ (seen - seen.mean(axis=0)), dim_out)


@final
class FisherProjection(NestedProjection):
    """The k numbers whose loss changes the classes' chances least, at a temperature.

    ``strengths_`` are the variances along them, 2 T² times the divergence that losing each would
    cost; zero for what fills up. Fitted on rows alone, the head is that of normal classes of one
    covariance (linear discriminant analysis), shrunk as the discriminant's is.
    """

    kind: ClassVar[str] = "fisher"
    temperature: float

    # Any: by scikit-learn's rule whatever is set is taken here, and checked by fit.
    def __init__(self, n_components: Any = None, *, temperature: Any = 2.0) -> None:
        self.n_components = n_components
        self.temperature = temperature

    def fit(self, X: Any, y: Any = None) -> "FisherProjection":
        """Fit on these rows and their classes."""
        X, y = validate_data(self, X, y, dtype=[np.float32, np.float64])
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        moments = gather_moments([(X, codes)], classes=len(self.classes_))
        self._check_two_classes(moments)
        weight, bias = _normal_head(moments)
        return self.fit_head(moments, weight, [X.astype(np.float64) @ weight.T + bias])

    def fit_head(
        self,
        moments: Moments,
        weight: Float[np.ndarray, "classes dim"],
        logits: Iterable[Logits],
    ) -> "FisherProjection":
        """Fit on a trained head's weight, and on its logits and the moments of the train rows."""
        if not self.temperature > 0:
            raise ProjectionError(f"temperature must be above 0, got {self.temperature}")
        self._check_two_classes(moments)
        width = self._wanted(moments, int(np.count_nonzero(moments.counts)) - 1)
        check_head(moments, weight)
        information = class_information(
            logits, classes=len(weight), temperature=float(self.temperature)
        )
        found = fisher_solution(moments, weight, information, width)
        facts = {"temperature": float(self.temperature)}
        self._keep(moments.mean, replace(found, facts=facts))
        return self

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags


def _normal_head(
    moments: Moments,
) -> tuple[Float64[np.ndarray, "classes dim"], Float64[np.ndarray, " classes"]]:
    """Weight and bias of the log chances of normal classes with one, shrunk, covariance."""
    within, _ = shrunk_within(moments)
    apart = np.where(moments.counts[:, None] > 0, moments.means - moments.mean, 0.0)
    weight = scipy.linalg.solve(within, apart.T, assume_a="pos").T
    shares = np.maximum(moments.counts, 1) / moments.rows
    bias = np.log(shares) - np.einsum("cd,cd->c", weight, apart / 2 + moments.mean)
    bias[moments.counts == 0] = NEVER
    return weight, bias
