"""Figures of merit: pure functions of arrays, each with its formula and its edge cases.

``labels`` and ``predicted`` are class numbers of the same rows in the same order. An interval is
a 95 % confidence interval. Empty input raises ``ValueError``: there is no accuracy of no rows.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float64, Int64

from distill.findings import Band, Difference, Distortion, Interval, Score

Z = 1.959963984540054  # the normal's 97.5 % quantile
BINS = 60
COOLEST, HOTTEST = 0.01, 100.0  # temperatures that are looked among
ROUNDING = 1e-6  # of the longest weight: two nearer than this are the same


def accuracy(labels: Int64[np.ndarray, " rows"], predicted: Int64[np.ndarray, " rows"]) -> float:
    """Share of the rows whose class was predicted; also the agreement of two predictions."""
    if len(labels) == 0:
        raise ValueError("no rows to score")
    return float(np.mean(labels == predicted))


def wilson_interval(hits: int, rows: int) -> Interval:
    """Of a share ``hits / rows``; sensible for shares of 0 and 1 too.

    (p + z²/2n ± z sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n) (Wilson 1927).
    """
    if not 0 <= hits <= rows or rows == 0:
        raise ValueError(f"{hits} of {rows} is not a share")
    share = hits / rows
    spread = Z * np.sqrt(share * (1 - share) / rows + Z**2 / (4 * rows**2))
    low, high = ((share + Z**2 / (2 * rows) + s * spread) / (1 + Z**2 / rows) for s in (-1, 1))
    # at 0 and 1 the formula's own bound is that share, but for rounding
    return Interval(low=0.0 if hits == 0 else float(low), high=1.0 if hits == rows else float(high))


def macro_f1(labels: Int64[np.ndarray, " rows"], predicted: Int64[np.ndarray, " rows"]) -> float:
    """Mean of 2 TP / (2 TP + FP + FN) over the classes that occur in either array.

    scikit-learn's ``f1_score(average="macro", zero_division=0)``.
    """
    if len(labels) == 0:
        raise ValueError("no rows to score")
    occurring, both = np.unique(np.concatenate([labels, predicted]), return_inverse=True)
    truth, guess = both[: len(labels)], both[len(labels) :]
    of_truth, of_guess, of_hits = (
        np.bincount(rows, minlength=len(occurring))
        for rows in (truth, guess, truth[truth == guess])
    )
    return float(np.mean(2 * of_hits / (of_truth + of_guess)))


def worst_class(
    labels: Int64[np.ndarray, " rows"], predicted: Int64[np.ndarray, " rows"]
) -> tuple[int, float]:
    """Class whose rows are hit least often, and that share; of equals the first.

    A class without a row in ``labels`` has no share and is never the worst.
    """
    if len(labels) == 0:
        raise ValueError("no rows to score")
    present, which = np.unique(labels, return_inverse=True)
    shares = np.bincount(which, weights=labels == predicted) / np.bincount(which)
    worst = int(np.argmin(shares))
    return int(present[worst]), float(shares[worst])


def paired_difference(
    labels: Int64[np.ndarray, " rows"],
    predicted: Int64[np.ndarray, " rows"],
    against: Int64[np.ndarray, " rows"],
) -> tuple[float, Interval]:
    """Accuracy of ``predicted`` minus that of ``against`` on the same rows.

    Only the rows that one hits and the other misses matter: with g gained, l lost of n,
    (g - l) / n. The interval is Wald's with half a row added to each of the four cells, so that
    no discordant row at all still leaves a width: with g, l and n so enlarged,
    (g - l)/n ± z sqrt(g + l - (g - l)²/n) / n (Agresti & Min 2005, doi:10.1002/sim.1781).
    """
    rows = len(labels)
    if rows == 0:
        raise ValueError("no rows to score")
    ours, theirs = labels == predicted, labels == against
    gained, lost = int(np.sum(ours & ~theirs)), int(np.sum(theirs & ~ours))
    n = rows + 2
    centre = (gained - lost) / n
    half = Z * np.sqrt(gained + lost + 1 - (gained - lost) ** 2 / n) / n
    interval = Interval(low=max(-1.0, float(centre - half)), high=min(1.0, float(centre + half)))
    return (gained - lost) / rows, interval


def score(
    labels: Int64[np.ndarray, " rows"],
    predicted: Int64[np.ndarray, " rows"],
    classes: Sequence[str],
) -> Score:
    """All that is said of one classifier's predictions; ``classes`` are the names."""
    hits, rows = int(np.sum(labels == predicted)), len(labels)
    worst, share = worst_class(labels, predicted)
    return Score(
        rows=rows,
        accuracy=hits / rows,
        interval=wilson_interval(hits, rows),
        macro_f1=macro_f1(labels, predicted),
        worst_class=classes[worst],
        worst_class_accuracy=share,
    )


def difference(
    labels: Int64[np.ndarray, " rows"],
    predicted: Int64[np.ndarray, " rows"],
    against: Int64[np.ndarray, " rows"],
    *,
    name: str,
) -> Difference:
    """``paired_difference`` to the classifier called ``name``, as a record."""
    value, interval = paired_difference(labels, predicted, against)
    return Difference(against=name, value=value, interval=interval)


def band(values: Sequence[float]) -> Band:
    """Mean over seeds and its 95 % interval by Student's t; no interval of a single one."""
    from scipy.special import stdtrit

    mean = float(np.mean(values))
    if len(values) < 2:
        return Band(mean=mean, interval=None)
    quantile = float(stdtrit(len(values) - 1, 0.975))
    half = quantile * float(np.std(values, ddof=1)) / float(np.sqrt(len(values)))
    return Band(mean=mean, interval=Interval(low=mean - half, high=mean + half))


def some_band(values: Sequence[float | None]) -> Band | None:
    """The band of what is defined; None where nothing is."""
    there = [value for value in values if value is not None]
    return band(there) if there else None


def distortion(
    before: Float[np.ndarray, " pairs"], after: Float[np.ndarray, " pairs"], *, eps: float
) -> Distortion:
    """Of squared distances ``before`` and ``after`` a map: the ratio's spread over the pairs.

    Pairs of identical rows (``before`` = 0) have no ratio: they are left out and counted. The
    histogram reaches from the smallest to the largest ratio.
    """
    ratio = ratios(before, after)
    if len(ratio) == 0:
        raise ValueError("no pair of different rows")
    low, middle, high = np.percentile(ratio, [1, 50, 99])
    counts, edges = np.histogram(ratio, bins=BINS)
    return Distortion(
        pairs=len(ratio),
        mean=float(ratio.mean()),
        std=float(ratio.std()),
        p01=float(low),
        p50=float(middle),
        p99=float(high),
        eps=eps,
        within_eps=float(np.mean(np.abs(ratio - 1) <= eps)),
        histogram_edges=tuple(edges.tolist()),
        histogram_counts=tuple(counts.tolist()),
        identical=len(before) - len(ratio),
    )


def ratios(
    before: Float[np.ndarray, " pairs"], after: Float[np.ndarray, " pairs"]
) -> Float64[np.ndarray, " kept"]:
    """``after / before`` where ``before`` is above 0."""
    kept = before > 0
    return after[kept].astype(np.float64) / before[kept].astype(np.float64)


def spearman(first: Float[np.ndarray, " n"], second: Float[np.ndarray, " n"]) -> float:
    """Rank correlation; equal values share the mean of their ranks. 0 where one is constant."""
    a, b = (_ranks(values) - (len(values) - 1) / 2 for values in (first, second))
    norm = float(np.sqrt(np.dot(a, a) * np.dot(b, b)))
    return float(np.dot(a, b)) / norm if norm > 0 else 0.0


def _ranks(values: Float[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    """From 0; a group of equal values gets the mean of the places it takes up."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts + 1) / 2)[which]


def log_likelihoods(
    logits: Float[np.ndarray, "rows classes"], labels: Int64[np.ndarray, " rows"]
) -> Float64[np.ndarray, " rows"]:
    """Natural logarithm of the probability that softmax gives each row's own class."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    own = shifted[np.arange(len(labels)), labels]
    return np.asarray(own - np.log(np.exp(shifted).sum(axis=1)))


def expected_calibration_error(
    probabilities: Float[np.ndarray, "rows classes"],
    labels: Int64[np.ndarray, " rows"],
    bins: int = 15,
) -> float:
    """Mean over rows of |accuracy - confidence| of the bin of their confidence.

    Confidence is the largest probability, in ``bins`` bins of equal width, each without its lower
    edge; of equal probabilities the first class is predicted (Guo et al., 2017, arXiv:1706.04599,
    equation 3).
    """
    if len(labels) == 0:
        raise ValueError("no rows to score")
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == labels
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    apart = np.bincount(place, weights=right - confidence, minlength=bins)
    return float(np.abs(apart).sum() / len(labels))


def fit_temperature(
    logits: Float[np.ndarray, "rows classes"], labels: Int64[np.ndarray, " rows"]
) -> float:
    """Number that logits are divided by so that their likelihood is greatest; in [0.01, 100].

    The mean log-likelihood is concave in 1 / T (Guo et al., 2017, arXiv:1706.04599, section 4.2).
    Where every row is right, ever smaller temperatures are better: then it is 0.01.
    """
    from scipy.optimize import minimize_scalar

    if len(labels) == 0:
        raise ValueError("no rows to score")

    def loss(log_inverse: float) -> float:
        return -float(log_likelihoods(logits * np.exp(log_inverse), labels).mean())

    bounds = (-float(np.log(COOLEST)), -float(np.log(HOTTEST)))
    found = minimize_scalar(loss, bounds=bounds[::-1], method="bounded", options={"xatol": 1e-6})
    ends = {bound: loss(bound) for bound in bounds}
    best = min(ends, key=lambda bound: ends[bound])
    return float(np.exp(-(best if ends[best] <= float(found.fun) else float(found.x))))


def geometric_margins(
    logits: Float[np.ndarray, "rows classes"],
    labels: Int64[np.ndarray, " rows"],
    weight: Float[np.ndarray, "classes dim"],
) -> Float64[np.ndarray, " rows"]:
    """Distance in features from each row to the nearest boundary of its class; below 0 if wrong.

    min over other classes j of (z_y - z_j) / ||w_y - w_j||. Classes of equal weights have no
    boundary and are left out.
    """
    z = logits.astype(np.float64)
    w = weight.astype(np.float64)
    squares = (w * w).sum(axis=1)
    apart = np.sqrt(np.maximum(squares[:, None] + squares - 2 * w @ w.T, 0.0))
    apart[apart <= ROUNDING * np.sqrt(squares.max(initial=0.0))] = np.nan
    np.fill_diagonal(apart, np.nan)
    ratio = (z[np.arange(len(labels)), labels][:, None] - z) / apart[labels]
    return np.asarray(np.nanmin(np.where(np.isnan(ratio), np.inf, ratio), axis=1))


def margin_kept(
    reference: Float[np.ndarray, " rows"], found: Float[np.ndarray, " rows"]
) -> float | None:
    """Median margin over that of a reference on the same rows; None where that is not above 0."""
    middle = float(np.median(reference))
    return float(np.median(found)) / middle if middle > 0 else None
