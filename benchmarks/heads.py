"""One logistic head against scikit-learn's at an equal objective. Prints JSON.

20,000 rows of 100 classes in 128 and in 2,048 dimensions, at two l2: class means in the 128 widest
directions plus noise within classes, with standard deviations that fall as i^-½, in no particular
directions. Ours does all that ``fit_path`` does, from raw features: checks, centring, covariance,
descent. scikit-learn is handed centred, scaled float32 features and, found beforehand by bisection,
the most iterations with which it does not yet come within 1e-4 of *our* objective (to 2 %), with a
tolerance that never ends it early: a little less than it would need. That is its lbfgs; newton-cg,
saga and sag take longer (128 dimensions: 1.3, more than 7 and 4 times as long). They take turns,
and the best round of each counts, since everything else on the machine only slows. Told beside:
how near the minimum ours ends, the minimum being what scikit-learn reaches with ``MOST``
iterations, how many new rows are of the same class there, and a path of three l2 beside three fits.
"""

import json
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from benchmarks.turns import best_of
from students import FittedHead, fit_path

ROWS, NEW, CLASSES, ROUNDS = 20_000, 4_000, 100, 5
CASES = ((128, 1e-3, 8.0), (128, 1e-4, 8.0), (2_048, 1e-3, 2.0), (2_048, 1e-4, 2.0))
MOST = 400
EQUAL = 1e-4
PATH = (1e-2, 1e-3, 1e-4)


@dataclass(frozen=True, kw_only=True)
class Data:
    """Rows, and the same rows as scikit-learn gets them."""

    features: np.ndarray
    labels: np.ndarray
    new: np.ndarray
    truth: np.ndarray
    mean: np.ndarray
    scale: np.float32
    scaled: np.ndarray


def make_data(dim: int) -> Data:
    rng = np.random.default_rng(0)
    spread = (np.arange(1, dim + 1) ** -0.5).astype(np.float32)
    means = rng.standard_normal((CLASSES, dim), dtype=np.float32) * spread * (np.arange(dim) < 128)
    labels = rng.integers(0, CLASSES, ROWS + NEW)
    turn, _ = np.linalg.qr(rng.standard_normal((dim, dim), dtype=np.float32))
    noise = rng.standard_normal((ROWS + NEW, dim), dtype=np.float32) * spread
    rows = (noise + np.float32(0.4) * means[labels]) @ turn
    mean = rows[:ROWS].mean(axis=0, dtype=np.float64).astype(np.float32)
    centred = rows[:ROWS] - mean
    scale = np.float32(np.sqrt(np.square(centred).mean(dtype=np.float64)))
    return Data(
        features=rows[:ROWS],
        labels=labels[:ROWS],
        new=rows[ROWS:],
        truth=labels[ROWS:],
        mean=mean,
        scale=scale,
        scaled=centred / scale,
    )


def objective(data: Data, weight: np.ndarray, bias: np.ndarray, l2: float) -> float:
    """Mean cross-entropy + l2/2 ||W||² of a head that reads scaled features, in float64."""
    logits = (data.scaled @ weight.T.astype(np.float32)).astype(np.float64) + bias
    top = logits.max(axis=1)
    losses = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
    losses -= logits[np.arange(ROWS), data.labels]
    return float(losses.mean() + l2 / 2 * np.sum(weight.astype(np.float64) ** 2))


def ours(data: Data, *l2: float) -> FittedHead:
    return fit_path(data.features, data.labels, classes=CLASSES, l2=l2, max_iterations=MOST)[-1]


def theirs(data: Data, l2: float, iterations: int) -> LogisticRegression:
    model = LogisticRegression(C=1 / (ROWS * l2), tol=1e-12, max_iter=iterations)
    with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
        return model.fit(data.scaled, data.labels)


def too_few(data: Data, l2: float, wanted: float) -> int:
    """Most iterations, to 2 %, with which scikit-learn's objective is above the one wanted."""

    def reaches(iterations: int) -> bool:
        model = theirs(data, l2, iterations)
        return objective(data, model.coef_, model.intercept_, l2) <= wanted

    low, high = 1, 16
    while high < MOST and not reaches(high):
        low, high = high, 2 * high
    while high - low > max(1, low // 50):
        middle = (low + high) // 2
        low, high = (low, middle) if reaches(middle) else (middle, high)
    return low


def compared(data: Data, l2: float) -> dict[str, Any]:
    head = ours(data, l2)
    weight, bias = head.weight * data.scale, head.bias + head.weight @ data.mean
    found = objective(data, weight, bias, l2)
    iterations = too_few(data, l2, found * (1 + EQUAL))
    reference = theirs(data, l2, MOST)
    least = objective(data, reference.coef_, reference.intercept_, l2)
    predicted = head.predict(data.new)
    agreed = predicted == reference.predict((data.new - data.mean) / data.scale)
    seconds, _ = best_of(
        {"ours": partial(ours, data, l2), "theirs": partial(theirs, data, l2, iterations)}, ROUNDS
    )
    return {
        "seconds": seconds,
        "faster": seconds["theirs"] / seconds["ours"],
        "iterations of scikit-learn": iterations,
        "objective above the least, relative": found / least - 1,
        "converged": head.converged,
        "new rows right": float(np.mean(predicted == data.truth)),
        "new rows of the same class": float(np.mean(agreed)),
    }


def path_cost(data: Data) -> dict[str, float]:
    rivals: dict[str, Callable[[], Any]] = {f"l2 {l2:g}": partial(ours, data, l2) for l2 in PATH}
    return best_of({**rivals, "path": partial(ours, data, *PATH)}, rounds=3)[0]


def main() -> None:
    bars, cases, paths = [], {}, {}
    for dim in sorted({dim for dim, _, _ in CASES}):
        data = make_data(dim)
        paths[dim] = path_cost(data)
        for _, l2, bar in (case for case in CASES if case[0] == dim):
            name = f"{ROWS} x {dim}, {CLASSES} classes, l2 {l2:g}"
            cases[name] = compared(data, l2)
            bars.append(
                {
                    "what": f"logistic head against scikit-learn, equal objective, {name} (speed)",
                    "measured": round(cases[name]["faster"], 2),
                    "bar": bar,
                    "better": "more",
                }
            )
    json.dump({"bars": bars, "cases": cases, "seconds of paths": paths}, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
