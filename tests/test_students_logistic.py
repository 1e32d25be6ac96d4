"""The change of variables: it is one, and it pays in how often the rows are read."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from students import fit_path
from students.cross_entropy import cross_entropy
from students.logistic import _factor, _Variables
from students.minimise import minimise

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

    monkeypatch.setattr("students.heads.cross_entropy", counting)
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
        pytest.param(MANY, "logistic.THETA", 0.0, 0.4, id="biases-measured-at-the-origin"),
        pytest.param(FEW_ROWS, "logistic.FALL", np.inf, 0.6, id="variables-never-changed"),
        pytest.param(MANY, "heads.sample_covariance", no_covariance, 0.6, id="plain-curvatures"),
    ],
)
def test_what_each_part_of_the_change_of_variables_saves(
    monkeypatch: pytest.MonkeyPatch, train: Train, what: str, without: object, saved: float
) -> None:
    with_all = evaluations(monkeypatch, train, 1e-4)
    monkeypatch.setattr(f"students.{what}", without)
    assert with_all < (1 - saved) * evaluations(monkeypatch, train, 1e-4)


def test_a_path_goes_on_from_the_head_before(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = (1e-2, 7e-3, 5e-3)
    each = sum(evaluations(monkeypatch, OVERLAPPING, l2) for l2 in grid)
    assert evaluations(monkeypatch, OVERLAPPING, *grid) < 0.8 * each


def test_no_more_steps_are_made_than_allowed_however_often_variables_change(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = []

    def counting(*args: object, **settings: object) -> object:
        found = minimise(*args, **settings)  # type: ignore[arg-type]
        made.append(found[2])
        return found

    monkeypatch.setattr("students.logistic.minimise", counting)
    (head,) = fit_path(*FEW_ROWS, classes=4, l2=[1e-5], max_iterations=15)
    assert not head.converged
    assert len(made) > 1
    assert sum(made) == 15


def some_variables(classes: int, dim: int) -> tuple[_Variables, np.ndarray]:
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((50, dim)) * np.logspace(0, -1, dim)
    covariance = (rows.T @ rows / 50).astype(np.float32)
    variables = _Variables(
        weight=rng.standard_normal((classes, dim)),
        bias=rng.standard_normal(classes),
        factor=_factor(covariance, 0.2, 1e-3),
        root=0.2**-0.5,
        centres=rng.standard_normal((classes, dim)),
    )
    return variables, 0.2 * covariance + 1e-3 * np.eye(dim)


def test_steps_of_one_unit_curve_the_objective_by_one() -> None:
    variables, curvature = some_variables(6, 5)
    unit = np.zeros((6, 6))
    unit[:5, :5] = np.eye(5)
    steps = variables.head(unit)[0] - variables.head(0 * unit)[0]
    steps -= steps[5]  # all classes were moved alike, so that no weight is shared
    np.testing.assert_allclose((steps @ curvature @ steps.T)[:5, :5], np.eye(5), atol=1e-4)


def test_the_gradient_by_the_variables_is_that_of_the_head() -> None:
    variables, _ = some_variables(4, 5)
    rng = np.random.default_rng(2)
    for_weight, for_bias = rng.standard_normal((4, 5)), rng.standard_normal(4)
    for_weight -= for_weight.mean(axis=0)  # as of any loss: what classes share changes none
    for_bias -= for_bias.mean()

    def value(place: np.ndarray) -> float:
        weight, bias = variables.head(place)
        return float(np.vdot(for_weight, weight) + np.vdot(for_bias, bias))

    gradient = variables.gradient(for_weight, for_bias)
    for spot in np.ndindex(4, 6):
        unit = np.zeros((4, 6))
        unit[spot] = 1
        slope = value(unit) - value(0 * unit)  # exact, as the change is linear
        assert gradient[spot] == pytest.approx(slope, rel=1e-4, abs=1e-4)
    shared = gradient[:, :-1].sum(axis=0)
    np.testing.assert_allclose(shared, 0, atol=1e-4)
