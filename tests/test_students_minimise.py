"""The minimiser on functions whose minimum is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from students.minimise import minimise

CURVATURES = np.logspace(-2, 2, 12)


def quadratic(place: np.ndarray) -> tuple[float, np.ndarray]:
    """1 + (x - c)ᵀ D (x - c) / 2 with curvatures from 1/100 to 100; the minimum is 1."""
    away = place - np.arange(place.size)
    return float(1 + 0.5 * np.dot(away, CURVATURES * away)), CURVATURES * away


START = np.full(12, 50.0)


def test_it_finds_the_minimum_of_an_ill_conditioned_quadratic() -> None:
    place, reached = minimise(quadratic, START, share=1e-4, max_iterations=200)
    assert reached
    assert quadratic(place)[0] <= 1 + 1e-4
    np.testing.assert_allclose(place, np.arange(12), atol=np.sqrt(2e-4 / CURVATURES[0]))


@given(seed=st.integers(0, 999), share=st.sampled_from([1e-2, 1e-4, 1e-6]))
def test_what_it_calls_near_is_near_and_no_nearer_than_asked(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    curvatures = 10 ** rng.uniform(-2, 0, 40)
    turn, _ = np.linalg.qr(rng.standard_normal((40, 40)))

    def bowl(place: np.ndarray) -> tuple[float, np.ndarray]:
        along = turn @ place - 1
        return float(2 + 0.5 * np.dot(along, curvatures * along)), turn.T @ (curvatures * along)

    place, reached = minimise(bowl, np.zeros(40), share=share, max_iterations=500)
    assert reached
    assert bowl(place)[0] - 2 <= 2 * share
    assert bowl(place)[0] - 2 > 2e-4 * share  # a waste of steps otherwise


def test_it_says_when_it_had_too_few_iterations() -> None:
    place, reached = minimise(quadratic, START, share=1e-4, max_iterations=3)
    assert not reached
    assert quadratic(place)[0] < quadratic(START)[0]


def test_the_last_step_allowed_may_be_the_one_that_reaches_it() -> None:
    reached = [minimise(quadratic, START, share=1e-4, max_iterations=n)[1] for n in range(200)]
    assert 5 < reached.index(True) < 199
    assert all(reached[reached.index(True) :])


def test_a_start_that_is_good_enough_stays() -> None:
    start = np.arange(12.0)
    place, reached = minimise(quadratic, start, share=1e-4, max_iterations=0)
    assert reached
    np.testing.assert_array_equal(place, start)
    assert place is not start


def test_a_flat_stretch_is_not_taken_for_the_minimum_at_the_start() -> None:
    def ramp(place: np.ndarray) -> tuple[float, np.ndarray]:
        """0.01 sqrt(1 + (x - 100)²): nearly straight, slope 0.01, far from its minimum."""
        away = place - 100
        root = np.sqrt(1 + away**2)
        return float(0.01 * root.sum()), 0.01 * away / root

    place, reached = minimise(ramp, np.zeros(1), share=1e-4, max_iterations=200)
    assert reached
    assert abs(place[0] - 100) < 0.1


def test_it_gives_up_where_the_gradient_is_a_lie() -> None:
    def lying(place: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = quadratic(place)
        return value, -gradient

    place, reached = minimise(lying, START, share=1e-4, max_iterations=50)
    assert not reached
    np.testing.assert_allclose(place, START, rtol=1e-2)  # steps within rounding are allowed


@pytest.mark.parametrize("power", [2, 4])
def test_it_is_not_thrown_by_a_step_that_is_far_too_long(power: int) -> None:
    def steep(place: np.ndarray) -> tuple[float, np.ndarray]:
        return float(1 + np.sum(1e6 * place**power)), 1e6 * power * place ** (power - 1)

    place, reached = minimise(steep, np.array([3.0, -2.0]), share=1e-3, max_iterations=300)
    assert reached
    assert steep(place)[0] < 1.001
