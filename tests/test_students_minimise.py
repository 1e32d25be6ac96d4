"""The minimiser on functions whose minimum is known."""

import numpy as np
import pytest

from students.minimise import minimise


def quadratic(place: np.ndarray) -> tuple[float, np.ndarray]:
    """1/2 (x - c)ᵀ D (x - c) with curvatures from 1 to 10,000."""
    curvatures = np.logspace(0, 4, place.size)
    away = place - np.arange(place.size)
    return float(0.5 * np.dot(away, curvatures * away)), curvatures * away


def small(value: float, gradient: np.ndarray) -> bool:
    del value
    return float(np.linalg.norm(gradient)) < 1e-8


def test_it_finds_the_minimum_of_an_ill_conditioned_quadratic() -> None:
    place, reached = minimise(quadratic, np.full(12, 50.0), enough=small, max_iterations=200)
    assert reached
    np.testing.assert_allclose(place, np.arange(12), atol=1e-8)


def test_it_says_when_it_had_too_few_iterations() -> None:
    place, reached = minimise(quadratic, np.full(12, 50.0), enough=small, max_iterations=3)
    assert not reached
    assert quadratic(place)[0] < quadratic(np.full(12, 50.0))[0]


def test_a_start_that_is_good_enough_stays() -> None:
    start = np.arange(5.0)
    place, reached = minimise(quadratic, start, enough=small, max_iterations=0)
    assert reached
    np.testing.assert_array_equal(place, start)
    assert place is not start


def test_it_gives_up_where_the_gradient_is_a_lie() -> None:
    def lying(place: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = quadratic(place)
        return value, -gradient

    start = np.full(3, 7.0)
    place, reached = minimise(lying, start, enough=small, max_iterations=50)
    assert not reached
    np.testing.assert_allclose(place, start, rtol=1e-4)  # steps within rounding are allowed


@pytest.mark.parametrize("power", [2, 4])
def test_it_is_not_thrown_by_a_step_that_is_far_too_long(power: int) -> None:
    def steep(place: np.ndarray) -> tuple[float, np.ndarray]:
        return float(np.sum(1e6 * place**power)), 1e6 * power * place ** (power - 1)

    def near(value: float, gradient: np.ndarray) -> bool:
        del gradient
        return value < 1e-3

    place, reached = minimise(steep, np.array([3.0, -2.0]), enough=near, max_iterations=300)
    assert reached
    assert np.abs(place).max() < 0.1
