"""Neural collapse: how far rows have shrunk to the means of their classes, and those to a simplex.

Late in the training of a classifier the rows of a class draw together (NC1) and the C class means,
seen from their centre, become equally long and equally far apart (NC2): the vertices of a simplex,
whose angles all have the cosine -1 / (C - 1) (Papyan, Han & Donoho, 2020,
doi:10.1073/pnas.2015509117). With S_w and S_b the scatter within the classes and of their means,

    nc1 = tr(S_w S_b⁺) / C        scatter ratio = tr(S_w) / tr(S_b).

To be measured on held-out rows: those that a teacher was tuned on are collapsed further than any
row it will meet.
"""

from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float64

from projections.base import ProjectionError
from projections.moments import Moments


@final
@dataclass(frozen=True, kw_only=True)
class Collapse:
    """At full collapse all are 0, but for ``cosine_mean``, which is ``simplex_cosine``."""

    classes: int  # with rows; all else is about these
    nc1: float
    scatter_ratio: float
    norm_spread: float  # standard deviation over mean of the centred means' lengths
    cosine_mean: float  # over pairs of centred class means
    cosine_std: float

    @property
    def simplex_cosine(self) -> float:
        """-1 / (C - 1): the mean cosine at full collapse, and whenever the lengths are equal."""
        return -1 / (self.classes - 1)


def neural_collapse(moments: Moments) -> Collapse:
    """Measure collapse from moments; classes without rows are left out.

    S_w and S_b weigh every row alike, as in ``Moments``, so large classes count for more; lengths
    and angles weigh every class alike, about the mean of the class means. A class mean at that
    very centre has no direction and is left out of the angles. ``ProjectionError`` for fewer than
    two classes with rows, or means that are all equal.
    """
    present = moments.counts > 0
    means, counts = moments.means[present], moments.counts[present]
    if len(means) < 2:
        raise ProjectionError(
            f"neural collapse is between classes: at least 2 need rows, got {len(means)}"
        )
    between = np.sqrt(counts / moments.rows)[:, None] * (means - moments.mean)
    _, sizes, directions = np.linalg.svd(between, full_matrices=False)
    # as exact as means in float64 are, however far from the origin the rows lie
    known = (
        sizes > max(means.shape) * np.finfo(np.float64).eps * np.linalg.norm(means, axis=1).max()
    )
    if not known.any():
        raise ProjectionError("the means of all classes are equal: nothing lies between them")
    directions = directions[known]
    within = moments.within_covariance
    along = np.einsum("id,id->i", directions @ within, directions)
    lengths, cosines = _lengths_and_cosines(means - means.mean(axis=0))
    return Collapse(
        classes=len(means),
        nc1=float((along / sizes[known] ** 2).sum()) / len(means),
        scatter_ratio=float(np.trace(within) / (sizes**2).sum()),
        norm_spread=float(lengths.std() / lengths.mean()),
        cosine_mean=float(cosines.mean()),
        cosine_std=float(cosines.std()),
    )


def _lengths_and_cosines(
    centred: Float64[np.ndarray, "classes dim"],
) -> tuple[Float64[np.ndarray, " classes"], Float64[np.ndarray, " pairs"]]:
    """Lengths of all, and cosines of all pairs of those that have a direction."""
    lengths = np.linalg.norm(centred, axis=1)
    pointing = lengths > 1e-12 * lengths.max()
    units = centred[pointing] / lengths[pointing, None]
    return lengths, (units @ units.T)[np.triu_indices(len(units), k=1)]
