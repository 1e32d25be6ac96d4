"""Linear heads: multinomial logistic regression on stored features.

With x' = (x - mean) / scale, where ``scale`` is the one root-mean-square of all deviations of the
training features from their mean, a head minimises

    mean cross-entropy(W x' + b) + l2 / 2 ||W||²        (the bias is not penalised)

which is scikit-learn's ``LogisticRegression(C=1 / (rows * l2))`` on x / scale: taking the mean
away moves no minimum, as the bias takes it up, and makes the descent short. Mean and scale are
folded back, so the head that is returned reads the features as they are stored.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from jaxtyping import Float, Float32, Float64, Int64

from students.cross_entropy import Reading, cross_entropy, cross_entropy_read
from students.errors import HeadError
from students.logistic import Bias, Weight, descend, mean_square, sample_covariance

FAR = (1e-12, 1e12)  # deviations beyond are scaled, exactly
NEVER = -1e4  # bias of a class without a training row: finite, yet never the largest


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class FittedHead:
    """A linear classifier of features and what is known of its fit."""

    weight: Float32[np.ndarray, "classes dim"]
    bias: Float32[np.ndarray, " classes"]
    l2: float
    validation_accuracy: float  # NaN until somebody has measured it
    converged: bool  # whether at most 1e-4 of the objective is left to gain

    def logits(
        self, features: Float[np.ndarray, "rows dim"]
    ) -> Float32[np.ndarray, "rows classes"]:
        """``features @ weight.T + bias``, in float32 whatever the features are stored in."""
        rows: Float32[np.ndarray, "rows dim"] = features.astype(np.float32, copy=False)
        logits: Float32[np.ndarray, "rows classes"] = rows @ self.weight.T + self.bias
        return logits

    def predict(self, features: Float[np.ndarray, "rows dim"]) -> Int64[np.ndarray, " rows"]:
        """Class of the largest logit; of equal ones the first."""
        best: Int64[np.ndarray, " rows"] = self.logits(features).argmax(axis=1)
        return best


def fit_path(
    train_features: Float[np.ndarray, "train dim"],
    train_labels: Int64[np.ndarray, " train"],
    *,
    classes: int,
    l2: Sequence[float],
    max_iterations: int,
    device: str = "cpu",
) -> tuple[FittedHead, ...]:
    """Fit one head for each ``l2``, and return them from the largest ``l2`` to the smallest.

    The first fit starts from zero, each later one from where the last one ended; nothing is drawn,
    so there is no seed. A class without a training row is never predicted. Holds one float32 copy
    of the features, and two of their covariance. Works with as many threads as BLAS may use: fits
    that run side by side belong in ``threadpool_limits(1)``. ``device`` is ``"cpu"`` or one that
    torch knows, where the rows must fit. No rows, a single class, labels out of range, values that
    are not finite and a device that is not there raise ``HeadError``.
    """
    _check(train_features, train_labels, classes=classes, what="training")
    path = _path(l2)
    counts = np.bincount(train_labels, minlength=classes)
    present = _present(counts)
    targets = np.searchsorted(present, train_labels)
    mean = train_features.mean(axis=0, dtype=np.float64)
    rows = (train_features - mean.astype(np.float32)).astype(np.float32, copy=False)
    exponent = _exponent(float(np.abs(rows).max()))
    if exponent:
        rows = np.ldexp(rows, -exponent)
    covariance, square = sample_covariance(rows), mean_square(rows)
    with cross_entropy(rows, targets, device=device) as losses:
        found = descend(
            losses,
            counts=counts[present],
            covariance=covariance,
            square=square,
            l2=path,
            max_iterations=max_iterations,
        )
        return _heads(path, found, present, mean, classes, exponent=exponent)


def fit_path_read(
    reading: Reading,
    *,
    counts: Int64[np.ndarray, " classes"],
    mean: Float64[np.ndarray, " dim"],
    covariance: Float64[np.ndarray, "dim dim"],
    l2: Sequence[float],
    max_iterations: int,
) -> tuple[FittedHead, ...]:
    """Fit as ``fit_path`` does on rows that are not held: each step reads all of them again.

    ``reading()`` begins a reading: finite features and labels, block after block, always the same,
    of which ``counts`` (a class), ``mean`` and ``covariance`` (divided by the rows) are known. A
    single class and an ``l2`` that is not above 0 raise ``HeadError``.
    """
    path, present = _path(l2), _present(counts)
    centre = mean.astype(np.float32)
    exponent = _exponent(float(np.sqrt(covariance.diagonal().max())))

    def centred() -> Iterator[tuple[Float32[np.ndarray, "b dim"], Int64[np.ndarray, " b"]]]:
        for features, labels in reading():
            rows = (features - centre).astype(np.float32, copy=False)
            yield np.ldexp(rows, -exponent) if exponent else rows, np.searchsorted(present, labels)

    with cross_entropy_read(centred, counts[present]) as losses:
        found = descend(
            losses,
            counts=counts[present],
            covariance=np.ldexp(covariance, -2 * exponent).astype(np.float32),
            square=float(np.trace(np.ldexp(covariance, -2 * exponent))) / len(mean),
            l2=path,
            max_iterations=max_iterations,
        )
        return _heads(path, found, present, mean, len(counts), exponent=exponent)


def _exponent(largest: float) -> int:
    """Power of two to divide features by, so that float32 holds their squares; 0 if it does."""
    return 0 if largest == 0 or FAR[0] < largest < FAR[1] else int(np.frexp(largest)[1])


def _path(l2: Sequence[float]) -> list[float]:
    if not l2 or not all(0 < strength < math.inf for strength in l2):
        raise HeadError(f"l2 must name at least one value above 0, got {list(l2)}")
    return sorted(l2, reverse=True)


def _present(counts: Int64[np.ndarray, " classes"]) -> Int64[np.ndarray, " present"]:
    """Classes that have rows."""
    present = np.flatnonzero(counts)
    if len(present) < 2:
        raise HeadError(
            f"all {counts.sum()} training rows are of class {present[0]}; "
            "a head needs at least two classes"
        )
    return present


def _heads(
    path: Sequence[float],
    found: Iterable[tuple[Weight, Bias, bool]],
    present: Int64[np.ndarray, " present"],
    mean: Float64[np.ndarray, " dim"],
    classes: int,
    *,
    exponent: int,
) -> tuple[FittedHead, ...]:
    """Heads of all classes that read features as they are stored, fitted on 2^-exponent times."""
    heads = []
    for strength, (weight, bias, converged) in zip(path, found, strict=True):
        every = np.zeros((classes, len(mean)), np.float32)
        shift = np.full(classes, NEVER, np.float32)
        every[present] = original = np.ldexp(weight, -exponent)
        shift[present] = bias - original @ mean
        heads.append(
            FittedHead(
                weight=every,
                bias=shift,
                l2=float(strength),
                validation_accuracy=math.nan,
                converged=converged,
            )
        )
    return tuple(heads)


def fit_head(
    train_features: Float[np.ndarray, "train dim"],
    train_labels: Int64[np.ndarray, " train"],
    validation_features: Float[np.ndarray, "validation dim"],
    validation_labels: Int64[np.ndarray, " validation"],
    *,
    classes: int,
    l2: Sequence[float],
    max_iterations: int,
    device: str = "cpu",
) -> FittedHead:
    """Fit as ``fit_path`` does and return the head with the fewest validation errors.

    Of equally good ones the most regularised is taken. Validation rows are checked as the training
    rows are.
    """
    _check(validation_features, validation_labels, classes=classes, what="validation")
    heads = fit_path(
        train_features,
        train_labels,
        classes=classes,
        l2=l2,
        max_iterations=max_iterations,
        device=device,
    )
    shares = [float(np.mean(h.predict(validation_features) == validation_labels)) for h in heads]
    best = shares.index(max(shares))  # of equals the first
    return replace(heads[best], validation_accuracy=shares[best])


def _check(
    features: Float[np.ndarray, "rows dim"],
    labels: Int64[np.ndarray, " rows"],
    *,
    classes: int,
    what: str,
) -> None:
    if len(labels) == 0:
        raise HeadError(f"the {what} split has no rows; a head needs some")
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        raise HeadError(
            f"{what} row {wrong[0]} has label {labels[wrong[0]]}, which is not one of the "
            f"{classes} classes"
        )
    finite = np.isfinite(features).all(axis=1)
    if not finite.all():
        raise HeadError(f"{what} row {int(np.argmin(finite))} holds NaN or infinite features")
