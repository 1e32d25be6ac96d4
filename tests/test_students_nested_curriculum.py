"""Which ranks are drawn when: distributions, first values, and nothing but (step, seed)."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from students.nested.curriculum import (
    SAMPLINGS,
    sampler,
    sandwich,
    uniform,
    variants_open,
    widening,
)
from students.nested.errors import NestedError

DRAWS = 4000


def test_the_first_draws_of_seed_zero_have_not_changed() -> None:
    assert [uniform(step, count=8, seed=0)[1] for step in range(8)] == [1, 7, 7, 1, 5, 7, 4, 3]
    assert [sandwich(step, count=8, seed=0) for step in range(3)] == [
        (0, 5, 7),
        (0, 1, 7),
        (0, 2, 7),
    ]
    drawn = [widening(step, count=8, seed=0, steps=16, over=0.5)[1] for step in range(16)]
    assert drawn == [1, 1, 2, 1, 1, 1, 1, 6, 3, 2, 5, 1, 4, 3, 4, 7]


def test_uniform_draws_every_variant_as_often_beside_the_anchor() -> None:
    drawn = [uniform(step, count=6, seed=3) for step in range(DRAWS)]
    assert all(places[0] == 0 and len(places) == 2 for places in drawn)
    counts = Counter(places[1] for places in drawn)
    assert sorted(counts) == [1, 2, 3, 4, 5]
    assert chisquare(list(counts.values())).pvalue > 1e-3


def test_sandwich_draws_both_ends_and_every_place_in_between_as_often() -> None:
    drawn = [sandwich(step, count=6, seed=3) for step in range(DRAWS)]
    assert all(places[0] == 0 and places[2] == 5 for places in drawn)
    counts = Counter(places[1] for places in drawn)
    assert sorted(counts) == [1, 2, 3, 4]
    assert chisquare(list(counts.values())).pvalue > 1e-3


def test_every_setting_has_its_place_in_each_step() -> None:
    draw = sampler("every", count=4, seed=7, steps=9, over=0.5)
    assert [draw(step) for step in range(9)] == [(0, 1, 2, 3)] * 9


def test_widening_opens_variants_one_by_one_and_the_lowest_after_its_share_of_the_steps() -> None:
    # 5 variants over 40 of 80 steps: 1 at step 0, one more every 10
    opened = [variants_open(step, count=6, steps=80, over=0.5) for step in range(80)]
    assert opened == [1] * 10 + [2] * 10 + [3] * 10 + [4] * 10 + [5] * 40


def test_widening_draws_every_open_variant_as_often() -> None:
    # a long training, so that thousands of steps have the same three open
    steps = range(2 * DRAWS, 3 * DRAWS)
    drawn = [widening(step, count=6, seed=3, steps=8 * DRAWS, over=0.5) for step in steps]
    counts = Counter(places[1] for places in drawn)
    assert sorted(counts) == [1, 2, 3]
    assert chisquare(list(counts.values())).pvalue > 1e-3


@given(
    count=st.integers(1, 12),
    steps=st.integers(1, 400),
    over=st.floats(0.01, 1.0),
    sampling=st.sampled_from(SAMPLINGS),
    seed=st.integers(0, 99),
)
def test_places_are_of_the_list_and_the_open_ones_only_grow(
    count: int, steps: int, over: float, sampling: str, seed: int
) -> None:
    draw = sampler(sampling, count=count, seed=seed, steps=steps, over=over)
    before = 0
    for step in range(steps):
        places = draw(step)
        assert places[0] == 0
        assert len(set(places)) == len(places)
        assert max(places) < count
        trained = {"sandwich": 3, "every": count}.get(sampling, 2)
        assert places == tuple(sorted(places))
        assert len(places) == min(count, trained)
        opened = variants_open(step, count=count, steps=steps, over=over)
        assert before <= opened <= count - 1
        if sampling == "widening":
            assert max(places) <= opened
        before = opened
    # whatever the rounding of the share, the lowest is open from then on
    assert variants_open(steps, count=count, steps=steps, over=over) == count - 1


def test_a_draw_depends_on_step_and_seed_alone() -> None:
    draw = sampler("widening", count=9, seed=5, steps=50, over=0.3)
    forward = [draw(step) for step in range(50)]
    assert [draw(step) for step in reversed(range(50))] == forward[::-1]
    other = sampler("widening", count=9, seed=6, steps=50, over=0.3)
    assert [other(step) for step in range(50)] != forward


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sampling": "unifrom"}, "no sampling of ranks named 'unifrom'; did you mean 'uniform'"),
        ({"count": 0}, "at least 1 setting for at least 1 step, got 0 and 10"),
        ({"steps": 0}, "at least 1 setting for at least 1 step, got 4 and 0"),
        ({"over": 0.0}, r"in \(0, 1\], got 0.0"),
        ({"over": 1.5}, r"in \(0, 1\], got 1.5"),
        ({"over": float("nan")}, r"in \(0, 1\], got nan"),
    ],
)
def test_what_cannot_be_drawn_is_refused(changes: dict[str, object], said: str) -> None:
    settings = {"sampling": "uniform", "count": 4, "seed": 0, "steps": 10, "over": 0.5} | changes
    with pytest.raises(NestedError, match=said):
        sampler(**settings)  # type: ignore[arg-type]
