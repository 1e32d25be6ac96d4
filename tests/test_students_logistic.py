"""How often the rows are read on the way to a minimum: the change of variables must pay."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from students import fit_path
from students.cross_entropy import cross_entropy

Train = tuple[np.ndarray, np.ndarray]


def clouds(rows: int, dim: int, classes: int, spread: float = 1.0) -> Train:
    """One cloud a class, whose axes differ in scale; all classes occur."""
    rng = np.random.default_rng(0)
    labels = np.arange(rows) % classes
    noise = spread * rng.standard_normal((rows, dim))
    features = rng.standard_normal((classes, dim))[labels] + noise
    return (features * np.logspace(0, -1, dim)).astype(np.float32), labels


OVERLAPPING, MANY = clouds(500, 30, 7, spread=1.5), clouds(1500, 10, 40)
FEW_ROWS = clouds(90, 200, 4)


def evaluations(monkeypatch: pytest.MonkeyPatch, train: Train, *l2: float) -> int:
    """How often the training rows are read for a loss."""
    asked = 0

    @contextmanager
    def counting(*data: object, **device: object) -> Iterator[object]:
        with cross_entropy(*data, **device) as losses:  # type: ignore[arg-type]
            last: list[np.ndarray] = []

            def counted(*head: np.ndarray) -> object:
                nonlocal asked
                again = bool(last) and all(map(np.array_equal, last, head))
                asked += not again  # the last answer is remembered
                last[:] = (array.copy() for array in head)
                return losses(*head)

            yield counted

    monkeypatch.setattr("students.logistic.cross_entropy", counting)
    heads = fit_path(*train, classes=int(train[1].max()) + 1, l2=l2, max_iterations=1000)
    assert all(head.converged for head in heads)
    return asked


@pytest.mark.parametrize(("l2", "most"), [(1e-1, 9), (1e-3, 26), (1e-4, 58)])
def test_few_evaluations_are_enough(monkeypatch: pytest.MonkeyPatch, l2: float, most: int) -> None:
    assert evaluations(monkeypatch, OVERLAPPING, l2) <= most


def no_covariance(rows: np.ndarray) -> np.ndarray:
    return np.zeros((rows.shape[1], rows.shape[1]), np.float32)


@pytest.mark.parametrize(
    ("train", "what", "without", "saved"),
    [
        pytest.param(MANY, "THETA", 0.0, 0.4, id="biases-measured-at-the-origin"),
        pytest.param(FEW_ROWS, "FALL", np.inf, 0.6, id="variables-never-changed"),
        pytest.param(MANY, "_covariance", no_covariance, 0.6, id="plain-curvatures"),
    ],
)
def test_what_each_part_of_the_change_of_variables_saves(
    monkeypatch: pytest.MonkeyPatch, train: Train, what: str, without: object, saved: float
) -> None:
    with_all = evaluations(monkeypatch, train, 1e-4)
    monkeypatch.setattr(f"students.logistic.{what}", without)
    assert with_all < (1 - saved) * evaluations(monkeypatch, train, 1e-4)


def test_a_path_goes_on_from_the_head_before(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = (1e-2, 7e-3, 5e-3)
    each = sum(evaluations(monkeypatch, OVERLAPPING, l2) for l2 in grid)
    assert evaluations(monkeypatch, OVERLAPPING, *grid) < 0.8 * each
