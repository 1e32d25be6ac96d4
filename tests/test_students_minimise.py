"""The minimiser on functions whose minimum is known."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from students.minimise import LOOSE, Seen, minimise

CURVATURES = np.logspace(-2, 2, 12)


def quadratic(place: np.ndarray) -> Seen:
    """1 + (x - c)ᵀ D (x - c) / 2 with curvatures from 1/100 to 100; the minimum is 1."""
    away = place - np.arange(place.size)
    gain = float(0.5 * np.dot(away, CURVATURES * away))
    return Seen(1 + gain, CURVATURES * away, 2 * gain)


START = np.full(12, 50.0)


def test_it_finds_the_minimum_of_an_ill_conditioned_quadratic() -> None:
    place, reached, steps = minimise(quadratic, START, share=1e-4, max_iterations=200)
    assert reached
    assert quadratic(place).value <= 1 + 1e-4
    np.testing.assert_allclose(place, np.arange(12), atol=np.sqrt(2e-4 / CURVATURES[0]))
    assert 5 < steps < 200


def bowl(seed: int, slack: float) -> Callable[[np.ndarray], Seen]:
    """Curvatures from 1/100 to 1, minimum 2, and a limit ``slack`` times what is left to gain."""
    rng = np.random.default_rng(seed)
    curvatures = 10 ** rng.uniform(-2, 0, 40)
    turn, _ = np.linalg.qr(rng.standard_normal((40, 40)))

    def function(place: np.ndarray) -> Seen:
        along = turn @ place - 1
        gain = float(0.5 * np.dot(along, curvatures * along))
        return Seen(2 + gain, turn.T @ (curvatures * along), slack * gain)

    return function


@given(
    seed=st.integers(0, 999),
    share=st.sampled_from([1e-2, 1e-4, 1e-6]),
    slack=st.sampled_from([1.0, 3.0]),
)
def test_what_it_calls_near_is_near_and_no_nearer_than_asked(
    seed: int, share: float, slack: float
) -> None:
    function = bowl(seed, slack)
    place, reached, _ = minimise(function, np.zeros(40), share=share, max_iterations=500)
    assert reached
    left = function(place).value - 2
    assert 2e-3 * share < left <= 2 * share * 1.001  # the lower one: a waste of steps otherwise


def test_the_limit_is_taken_at_its_word_and_the_curvatures_are_not() -> None:
    def after(slack: float) -> int:
        return minimise(bowl(3, slack), np.zeros(40), share=1e-4, max_iterations=500)[2]

    # a sharp limit ends it, a loose one leaves it to the curvatures, a useless one outweighs them
    assert after(1.0) <= after(LOOSE) < after(1000 * LOOSE)


def test_it_says_when_it_had_too_few_iterations() -> None:
    place, reached, steps = minimise(quadratic, START, share=1e-4, max_iterations=3)
    assert not reached
    assert steps == 3
    assert quadratic(place).value < quadratic(START).value


def test_the_last_step_allowed_may_be_the_one_that_reaches_it() -> None:
    *_, needed = minimise(quadratic, START, share=1e-4, max_iterations=200)
    for allowed, enough in ((needed - 1, False), (needed, True)):
        found = minimise(quadratic, START, share=1e-4, max_iterations=allowed)
        assert found[1:] == (enough, allowed)


def test_a_start_that_is_good_enough_stays() -> None:
    start = np.arange(12.0)
    place, reached, steps = minimise(quadratic, start, share=1e-4, max_iterations=0)
    assert (reached, steps) == (True, 0)
    np.testing.assert_array_equal(place, start)
    assert place is not start


def test_it_leaves_when_its_variables_are_stale() -> None:
    asked = []

    def stale(steps: int) -> bool:
        asked.append(steps)
        return steps == 4

    place, reached, steps = minimise(quadratic, START, share=1e-4, max_iterations=200, stale=stale)
    same, *_ = minimise(quadratic, START, share=1e-4, max_iterations=4)
    assert (reached, steps, asked) == (False, 4, [0, 1, 2, 3, 4])
    np.testing.assert_array_equal(place, same)


def test_it_finds_its_way_along_a_nearly_straight_slope() -> None:
    def ramp(place: np.ndarray) -> Seen:
        """0.01 sqrt(1 + (x - 100)²): the curvature at the start is a millionth of the one below."""
        away = place - 100
        root = np.sqrt(1 + away**2)
        value = float(0.01 * root.sum())
        return Seen(value, 0.01 * away / root, value - 0.01)

    place, reached, _ = minimise(ramp, np.zeros(1), share=1e-4, max_iterations=200)
    assert reached
    assert abs(place[0] - 100) < 0.02


def test_it_gives_up_where_the_gradient_is_a_lie() -> None:
    asked = 0

    def lying(place: np.ndarray) -> Seen:
        nonlocal asked
        asked += 1
        seen = quadratic(place)
        return seen._replace(gradient=-seen.gradient)

    place, reached, _ = minimise(lying, START, share=1e-4, max_iterations=50)
    assert not reached
    assert asked < 100
    np.testing.assert_allclose(place, START, rtol=1e-2)  # steps within rounding are allowed


def counted(function: Callable[[np.ndarray], Seen], start: np.ndarray) -> int:
    """How often the function is asked on the way to its minimum."""
    asked = 0

    def counting(place: np.ndarray) -> Seen:
        nonlocal asked
        asked += 1
        return function(place)

    assert minimise(counting, start, share=1e-4, max_iterations=500)[1]
    return asked


def test_it_asks_no_more_often_where_everything_curves_a_thousand_times_as_much() -> None:
    def steeper(place: np.ndarray) -> Seen:
        value, gradient, limit = quadratic(place)
        return Seen(1000 * value, 1000 * gradient, 1000 * limit)

    assert counted(steeper, START) < 1.3 * counted(quadratic, START)


def test_a_stretch_that_curves_downwards_does_not_mislead_it() -> None:
    def hollow(place: np.ndarray) -> Seen:
        squares = float(np.vdot(place, place))
        gain = float(np.log1p(squares))
        return Seen(1 + gain, 2 * place / (1 + squares), gain)

    place, reached, _ = minimise(hollow, np.full(1, 5.0), share=1e-4, max_iterations=100)
    assert reached
    assert abs(place[0]) < 0.02


@pytest.mark.parametrize("power", [2, 4])
def test_it_is_not_thrown_by_a_step_that_is_far_too_long(power: int) -> None:
    def steep(place: np.ndarray) -> Seen:
        gain = float(np.sum(1e6 * place**power))
        return Seen(1 + gain, 1e6 * power * place ** (power - 1), gain)

    start = np.array([3.0, -2.0])
    place, reached, _ = minimise(steep, start, share=1e-3, max_iterations=300)
    assert reached
    assert steep(place).value < 1.001
    assert counted(steep, start) < 300


def test_a_function_that_is_not_a_number_ends_the_search() -> None:
    def broken(place: np.ndarray) -> Seen:
        return Seen(float("nan"), np.full_like(place, np.nan), float("inf"))

    place, converged, steps = minimise(broken, np.zeros(3), share=1e-4, max_iterations=50)
    assert (place.tolist(), converged, steps) == ([0, 0, 0], False, 0)
