"""The metric in which an error of a student's rows costs what it changes of the classes' chances.

For a linear head W on z, KL(teacher ‖ student) is to second order ½ (g - z)ᵀ F (g - z) with
F = Wᵀ (diag p - p pᵀ) W and p the teacher's chances of that row (Fisher's information of z on the
class: Amari, 1998, doi:10.1162/089976698300017746). Its mean over rows is the metric of the
distance ``fisher``, plus a share of Σ⁻¹, the metric of Mahalanobis: F alone lets go of all that
logits do not show.
"""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float, Float64

from students.errors import StudentError

FLOOR = 1e-3  # of the largest variance: no direction counts as varying less, or it would be all

Logits = Float[np.ndarray, "_ _"]  # (rows, classes): axes without names, as blocks differ


def fisher_metric(
    weight: Float[np.ndarray, "classes k"],
    logits: Iterable[Logits],
    *,
    covariance: Float64[np.ndarray, "k k"],
    ridge: float,
    temperature: float = 1.0,
) -> Float64[np.ndarray, "k k"]:
    """M = F + λ Σ⁻¹, scaled to trace k, with F = E[Wᵀ (diag p - p pᵀ) W] over all rows.

    ``weight`` is that of a head on z, ``logits`` the teacher's, block after block, of which p is
    the softmax over ``temperature``; ``covariance`` is Σ, that of z. λ is ``ridge`` · tr(FΣ) / k,
    so that with ``ridge`` 1 both parts say as much of rows that vary as z does, whatever the size
    of the logits. Sums are float64. ``StudentError`` for blocks of other classes than the head's,
    for no rows, and for a metric that would be zero.
    """
    if ridge < 0:
        raise StudentError(f"the ridge of a metric must not be below 0, got {ridge}")
    information = mean_information(weight, logits, temperature=temperature)
    k = len(information)
    if ridge:
        variances, directions = np.linalg.eigh(covariance)
        if not variances[-1] > 0:
            raise StudentError("the targets do not vary: there is no metric to measure them in")
        inverse = (directions / np.maximum(variances, FLOOR * variances[-1])) @ directions.T
        shown = float(np.einsum("ij,ji->", information, covariance)) / k
        information = information + ridge * shown * inverse if shown > 0 else inverse
    trace = float(np.trace(information))
    if not trace > 0:
        raise StudentError(
            "the teacher's logits depend on no direction of the targets: there is no metric in "
            "them; take another loss, or a ridge above 0"
        )
    metric: Float64[np.ndarray, "k k"] = (information + information.T) * (k / trace / 2)
    return metric


def mean_information(
    weight: Float[np.ndarray, "classes k"], logits: Iterable[Logits], *, temperature: float = 1.0
) -> Float64[np.ndarray, "k k"]:
    """E[Wᵀ (diag p - p pᵀ) W] over all rows, p = softmax(logits / temperature)."""
    classes, k = weight.shape
    # what all classes share changes no chance; without it less cancels below
    centred = weight.astype(np.float64)
    centred = centred - centred.mean(axis=0)
    rows, shares, squares = 0, np.zeros(classes), np.zeros((k, k))
    for block in logits:
        if block.shape[1] != classes:
            raise StudentError(
                f"the teacher's logits are of {block.shape[1]} classes, and the head has {classes};"
                " train the head on the same data"
            )
        p = _softmax(block.astype(np.float64) / temperature)
        means = p @ centred
        rows += len(p)
        shares += p.sum(axis=0)
        squares += means.T @ means
    if not rows:
        raise StudentError("a metric needs rows of the teacher's logits, got none")
    found: Float64[np.ndarray, "k k"]
    found = (centred.T @ (shares[:, None] * centred) - squares) / rows
    return found


def _softmax(logits: Float64[np.ndarray, "rows classes"]) -> Float64[np.ndarray, "rows classes"]:
    chances: Float64[np.ndarray, "rows classes"]
    chances = np.exp(logits - logits.max(axis=1, keepdims=True))
    chances /= chances.sum(axis=1, keepdims=True)
    return chances
