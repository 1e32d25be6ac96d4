"""Figures of merit against hand-computed answers, scikit-learn and SciPy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import f1_score

from distill import metrics

LABELS = np.array([0, 0, 0, 0, 2, 2, 2, 3], np.int64)
PREDICTED = np.array([0, 0, 0, 1, 2, 2, 0, 3], np.int64)


def integers(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def test_accuracy_is_the_share_of_hits() -> None:
    assert metrics.accuracy(LABELS, PREDICTED) == 6 / 8


def test_the_wilson_interval_of_15_of_20_is_the_textbook_one() -> None:
    # p = .75, z² = 3.8415: centre (.75 + .09604) / 1.19207, half 1.95996 sqrt(.009375 + .0024009)
    interval = metrics.wilson_interval(15, 20)
    assert interval.low == pytest.approx(0.5313, abs=1e-4)
    assert interval.high == pytest.approx(0.8881, abs=1e-4)


@given(rows=st.integers(1, 500), data=st.data())
def test_the_wilson_interval_agrees_with_scipy_and_holds_the_share(
    rows: int, data: st.DataObject
) -> None:
    hits = data.draw(st.integers(0, rows))
    interval = metrics.wilson_interval(hits, rows)
    theirs = stats.binomtest(hits, rows).proportion_ci(method="wilson")
    np.testing.assert_allclose([interval.low, interval.high], [theirs.low, theirs.high], atol=1e-12)
    assert 0 <= interval.low <= hits / rows <= interval.high <= 1


@pytest.mark.parametrize(("hits", "rows"), [(0, 0), (3, 2), (-1, 2)])
def test_what_is_no_share_has_no_interval(hits: int, rows: int) -> None:
    with pytest.raises(ValueError, match=f"{hits} of {rows} is not a share"):
        metrics.wilson_interval(hits, rows)


def test_macro_f1_by_hand() -> None:
    # class 0: 2*3/(4+4); class 1, predicted only: 0; class 2: 2*2/(3+2); class 3: 1
    assert metrics.macro_f1(LABELS, PREDICTED) == pytest.approx((0.75 + 0 + 0.8 + 1) / 4)


@given(seed=st.integers(0, 999), classes=st.integers(1, 9), rows=st.integers(1, 40))
def test_macro_f1_agrees_with_scikit_learn(seed: int, classes: int, rows: int) -> None:
    rng = np.random.default_rng(seed)
    labels, predicted = rng.integers(0, classes, (2, rows)) * 3
    theirs = f1_score(labels, predicted, average="macro", zero_division=0)
    assert metrics.macro_f1(labels, predicted) == pytest.approx(theirs, abs=1e-12)


def test_the_worst_class_is_one_that_occurs_in_the_labels() -> None:
    worst, share = metrics.worst_class(LABELS, PREDICTED)
    assert (worst, round(share, 6)) == (2, 0.666667)


def test_of_equally_bad_classes_the_first_is_the_worst() -> None:
    assert metrics.worst_class(integers(5, 3, 3, 5), integers(5, 3, 5, 3)) == (3, 0.5)


def test_a_paired_difference_by_hand() -> None:
    # 10 rows: 3 gained, 1 lost. With half a row more in each cell n = 12, g = 3.5, l = 1.5:
    # 2/12 ± 1.96 sqrt(5 - 4/12) / 12 = 0.16667 ± 0.35283
    labels = np.zeros(10, np.int64)
    ours = integers(0, 0, 0, 0, 0, 0, 0, 1, 1, 1)
    theirs = integers(1, 1, 1, 0, 0, 0, 0, 0, 1, 1)
    value, interval = metrics.paired_difference(labels, ours, theirs)
    assert value == pytest.approx(0.2)
    assert interval.low == pytest.approx(0.16667 - 0.35283, abs=1e-4)
    assert interval.high == pytest.approx(0.16667 + 0.35283, abs=1e-4)


def test_a_paired_difference_turns_its_sign_with_its_sides() -> None:
    rng = np.random.default_rng(0)
    labels, ours, theirs = rng.integers(0, 3, (3, 57))
    value, interval = metrics.paired_difference(labels, ours, theirs)
    back, other = metrics.paired_difference(labels, theirs, ours)
    assert value != 0
    assert (value, interval.low, interval.high) == pytest.approx((-back, -other.high, -other.low))


def test_pairing_narrows_the_interval_where_two_classifiers_err_alike() -> None:
    labels = np.zeros(200, np.int64)
    half = (np.arange(200) < 100).astype(np.int64)
    _, alike = metrics.paired_difference(labels, half, half)
    _, unlike = metrics.paired_difference(labels, half, 1 - half)
    assert 0 < alike.high - alike.low < 0.03  # never without width
    assert unlike.high - unlike.low > 0.25


@given(rows=st.integers(1, 30), data=st.data())
def test_a_paired_interval_holds_its_value(rows: int, data: st.DataObject) -> None:
    bits = st.lists(st.integers(0, 1), min_size=rows, max_size=rows)
    ours, theirs = (np.array(data.draw(bits), np.int64) for _ in range(2))
    value, interval = metrics.paired_difference(np.zeros(rows, np.int64), ours, theirs)
    assert -1 <= interval.low <= value <= interval.high <= 1


def test_the_paired_interval_covers_the_truth_as_often_as_it_says() -> None:
    # 400 draws of 200 rows, true difference -0.02; 95 % ± 4.6 standard errors of 1.1 %
    rng = np.random.default_rng(5)
    covered = 0
    for _ in range(400):
        draw = rng.random(200)
        theirs = (draw > 0.9).astype(np.int64)  # right 90 %
        ours = ((draw > 0.85) ^ (draw > 0.97)).astype(np.int64)  # gains 3 %, loses 5 %
        _, interval = metrics.paired_difference(np.zeros(200, np.int64), ours, theirs)
        covered += interval.low <= -0.02 <= interval.high
    assert 0.90 <= covered / 400 <= 0.995


def test_a_score_names_the_worst_class() -> None:
    scored = metrics.score(LABELS, PREDICTED, ("ant", "bee", "cat", "dog"))
    assert (scored.rows, scored.accuracy, scored.worst_class) == (8, 0.75, "cat")
    assert scored.interval == metrics.wilson_interval(6, 8)
    assert scored.macro_f1 == metrics.macro_f1(LABELS, PREDICTED)


def test_a_difference_says_against_whom() -> None:
    found = metrics.difference(LABELS, PREDICTED, LABELS, name="full")
    assert (found.against, found.value) == ("full", -0.25)


@pytest.mark.parametrize(
    "figure", [metrics.accuracy, metrics.macro_f1, metrics.worst_class], ids=lambda f: f.__name__
)
def test_no_rows_have_no_figure(figure: object) -> None:
    assert callable(figure)
    with pytest.raises(ValueError, match="no rows to score"):
        figure(integers(), integers())


def test_distortion_by_hand_leaves_out_identical_rows() -> None:
    before = np.array([1, 2, 4, 0, 5], np.float32)
    after = np.array([1, 1, 6, 0, 10], np.float32)
    found = metrics.distortion(before, after, eps=0.5)
    assert (found.pairs, found.identical) == (4, 1)
    assert found.mean == pytest.approx((1 + 0.5 + 1.5 + 2) / 4)
    assert found.std == pytest.approx(np.std([1, 0.5, 1.5, 2]))
    assert found.p50 == pytest.approx(1.25)
    assert found.p01 == pytest.approx(0.5 + 0.03 * 0.5)  # linear between the order statistics
    assert found.within_eps == 0.75  # 0.5 and 1.5 lie within 1 ± 0.5
    assert sum(found.histogram_counts) == 4
    assert len(found.histogram_edges) == len(found.histogram_counts) + 1 == metrics.BINS + 1
    assert (found.histogram_edges[0], found.histogram_edges[-1]) == (0.5, 2.0)


def test_a_distortion_of_identical_rows_only_is_refused() -> None:
    nothing = np.zeros(3, np.float32)
    with pytest.raises(ValueError, match="no pair of different rows"):
        metrics.distortion(nothing, nothing, eps=0.5)


def test_spearman_by_hand() -> None:
    # ranks 0 1 2 3 against 0 2 1 3: 1 - 6 * 2 / (4 * 15)
    first, second = np.array([1.0, 2.0, 3.0, 9.0]), np.array([0.1, 0.3, 0.2, 0.4])
    assert metrics.spearman(first, second) == pytest.approx(0.8)
    assert metrics.spearman(first, -first) == pytest.approx(-1)


@given(seed=st.integers(0, 999), rows=st.integers(3, 60))
def test_spearman_agrees_with_scipy_with_ties(seed: int, rows: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = rng.integers(0, 5, (2, rows)).astype(np.float64)
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        assert metrics.spearman(first, second) == 0.0
        return
    theirs = stats.spearmanr(first, second).statistic
    assert metrics.spearman(first, second) == pytest.approx(theirs, abs=1e-12)
