import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.findings import Difference, Interval
from distill.reporting.derived import (
    break_even,
    derive,
    dims_per_class,
    head_row,
    judge,
    smallest_within,
    with_derived,
)
from distill.reporting.words import words
from tests.reporting_examples import (
    difference,
    full_report,
    head,
    projected,
    score,
    smallest_report,
    student,
)


def test_the_paper_s_cifar_example_is_charged_for_its_map() -> None:
    # d 2048, C 100, k 128: P 262,144 and head 12,800 against 204,800 for the dense head
    cifar = dataclasses.replace(head(16), classes=100)
    row = head_row(cifar, data_aware=False)
    assert row.unfolded_multiply_adds == 262_144 + 12_800
    assert row.folded_multiply_adds == 204_800
    assert row.charged_multiply_adds == 204_800
    assert row.head_parameters == 12_800 + 100
    assert row.map_bytes == 262_144 * 4
    assert row.embedding_bytes == 512
    assert row.dims_per_class == pytest.approx(128 / 99)


def test_numbers_stored_in_float16_take_two_bytes_each() -> None:
    narrow = dataclasses.replace(head(16), dtype="float16")
    assert head_row(narrow, data_aware=False).embedding_bytes == 256


def test_one_map_stored_in_two_types_is_no_second_seed() -> None:
    heads = (head(1), head(16), dataclasses.replace(head(16), dtype="float16"))
    report = dataclasses.replace(full_report(), heads=heads)
    derived = derive(report)
    assert derived.spreads == ()
    said = words(report, derived)
    assert not any("over 2 maps" in sentence for sentence in said.shows)
    assert any("drawn once" in sentence for sentence in said.limits)


def test_below_the_break_even_keeping_map_and_head_apart_is_charged() -> None:
    row = head_row(head(256), data_aware=False)  # k 8, d 2048, C 10: k* = 9.95
    assert row.unfolded_multiply_adds == 8 * 2048 + 8 * 10 == 16_464
    assert row.charged_multiply_adds == 16_464 < row.folded_multiply_adds == 20_480


def test_the_full_head_has_no_map_and_costs_d_times_c() -> None:
    row = head_row(head(1), data_aware=False)
    assert (row.map_bytes, row.seed_bytes) == (0, 0)
    assert row.unfolded_multiply_adds == row.charged_multiply_adds == 20_480
    assert row.verdict == "reference"


def test_only_a_map_drawn_from_a_seed_can_be_kept_as_one() -> None:
    assert head_row(head(16), data_aware=False).seed_bytes == 16
    assert head_row(head(16), data_aware=True).seed_bytes is None


def test_data_aware_maps_are_known_by_their_projection() -> None:
    report = full_report()
    aware = dataclasses.replace(projected(4, None), data_aware=True)
    report = dataclasses.replace(report, projected=(projected(2, None), aware))
    seeds = {row.name: row.seed_bytes for row in derive(report).heads}
    assert seeds["gaussian-k512-s0"] is None
    assert seeds["gaussian-k1024-s0"] == 16


@given(dim=st.integers(1, 5000), classes=st.integers(2, 2000), k=st.integers(1, 5000))
def test_the_break_even_is_where_apart_and_folded_cost_the_same(
    dim: int, classes: int, k: int
) -> None:
    at = break_even(dim, classes)
    assert at * (dim + classes) == pytest.approx(dim * classes)
    assert (k * (dim + classes) <= dim * classes) == (k <= at * (1 + 1e-12))


def test_break_even_by_hand() -> None:
    assert break_even(2048, 10) == pytest.approx(20480 / 2058)


def test_dimensions_per_class_by_hand() -> None:
    assert dims_per_class(8, 10) == pytest.approx(8 / 9)
    assert dims_per_class(9, 10) == 1.0
    assert dims_per_class(3, 1) == 3.0  # one class: nothing to divide by


@pytest.mark.parametrize(
    ("low", "value", "high", "verdict"),
    [
        (-0.010, -0.002, 0.004, "within"),  # exactly at the tolerance is within it
        (-0.0101, -0.002, 0.004, "undecided"),
        (-0.030, -0.020, -0.0099, "undecided"),
        (-0.030, -0.020, -0.0101, "worse"),
        (0.010, 0.020, 0.030, "within"),
    ],
)
def test_verdicts_turn_at_one_point(low: float, value: float, high: float, verdict: str) -> None:
    found = Difference(against="full", value=value, interval=Interval(low=low, high=high))
    assert judge(found, 100)[0] == verdict


def test_the_rows_that_would_settle_a_verdict_follow_from_the_root_law() -> None:
    # half width 2 points at 100 rows; 1 point is needed: four times the rows
    assert judge(difference(0.0, 0.02), 100) == ("undecided", 400)
    # the value lies 1 point below the tolerance and the interval reaches 3 up: nine times
    assert judge(difference(-0.02, 0.03), 100) == ("undecided", 900)


def test_no_number_of_rows_settles_a_difference_that_is_the_tolerance() -> None:
    assert judge(difference(-0.01, 0.02), 100) == ("undecided", None)


def test_seeds_of_one_map_are_summed_up() -> None:
    heads = (
        head(1),
        head(16, seed=0, accuracy=0.90),
        head(16, seed=1, accuracy=0.94),
        head(16, seed=2, accuracy=0.95),
        head(4),
    )
    (spread,) = derive(dataclasses.replace(full_report(), heads=heads)).spreads
    assert (spread.kind, spread.dim_out, spread.seeds) == ("gaussian", 128, 3)
    assert spread.mean == pytest.approx(0.93)
    assert spread.std == pytest.approx((0.0014 / 2) ** 0.5)  # sample: divided by n - 1
    assert (spread.low, spread.high) == (0.90, 0.95)


def test_one_lucky_seed_does_not_certify_a_map() -> None:
    sure = difference(0.0, 0.005)
    heads = (
        head(1),
        dataclasses.replace(head(4), difference=sure),
        dataclasses.replace(head(16, seed=0), difference=sure),
        dataclasses.replace(head(16, seed=1), difference=difference(-0.02, 0.005)),
    )
    best = smallest_within(derive(dataclasses.replace(full_report(), heads=heads)))
    assert best is not None
    assert best.dim_out == 512
    assert smallest_within(derive(dataclasses.replace(full_report(), heads=heads[:1]))) is None


def test_a_student_is_compared_with_its_teacher_s_size() -> None:
    report = dataclasses.replace(
        full_report(),
        students=(student("subspace", 0.9, parameters=100, teacher_parameters=5800),),
    )
    assert derive(report).students[0].times_smaller == 58
    unknown = dataclasses.replace(report, students=(student("labels", 0.9, teacher_parameters=0),))
    assert derive(unknown).students[0].times_smaller is None


def test_deriving_again_changes_nothing_and_replaces_what_was_there() -> None:
    once = with_derived(full_report())
    assert with_derived(once) == once
    stale = dataclasses.replace(once, heads=once.heads[:1])
    assert len(with_derived(stale).derived["heads"]) == 1


def test_a_report_without_heads_is_derived_too() -> None:
    empty = dataclasses.replace(smallest_report(), heads=(), projected=(), classes=0)
    assert derive(empty).break_even == 0
    assert score(0.5).interval.low < 0.5  # the example's own interval is one
