"""Folds, costs and choices of a sweep: hand-computed answers, and rules that always hold."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.model_selection import StratifiedKFold

from distill.errors import StageError
from distill.findings import SweptMap
from distill.metrics import band, some_band
from distill.sweeping import cost
from distill.sweeping.cells import Cell, CellScore, packed, unpacked
from distill.sweeping.choosing import (
    Choice,
    Setting,
    choose,
    held_by_walk,
    recommend,
    swept_map,
)
from distill.sweeping.folds import CALIBRATING, FOLDS, partition, place_of
from distill.sweeping.scoring import TestCell, certified

SETTING = Setting(dim=100, classes=20, tolerance=0.01, shipped="head")
HELD = 40


# --- folds ---------------------------------------------------------------------------------------


def test_seeds_take_the_folds_of_one_partition_after_another() -> None:
    assert [place_of(seed) for seed in (0, 4, 5, 13)] == [(0, 0), (0, 4), (1, 0), (2, 3)]


@given(st.lists(st.integers(0, 6), min_size=10, max_size=200), st.integers(0, 3))
def test_folds_are_stratified_and_no_row_has_two_uses(labels: list[int], number: int) -> None:
    codes = np.array(labels, np.int64)
    drawn = partition(codes, number)
    for label in np.unique(codes):
        counts = np.bincount(drawn.fold[codes == label], minlength=FOLDS)
        assert counts.max() - counts.min() <= 1
    scored = []
    for fold in range(FOLDS):
        split = drawn.split(fold)
        together = np.concatenate([split.fit, split.calibrate, split.held])
        assert np.array_equal(np.sort(together), np.arange(len(codes)))
        scored.append(split.held)
    assert np.array_equal(np.sort(np.concatenate(scored)), np.arange(len(codes)))
    sizes = [len(held) for held in scored]
    assert max(sizes) - min(sizes) <= 1


def test_folds_are_as_even_as_scikit_learn_s() -> None:
    labels = np.random.default_rng(0).integers(0, 30, 500)
    ours = partition(labels, 0).fold
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    theirs = [held for _, held in folds.split(labels[:, None], labels)]
    for label in range(30):
        counts = np.bincount(ours[labels == label], minlength=FOLDS)
        other = [np.sum(labels[held] == label) for held in theirs]
        assert counts.max() - counts.min() <= max(1, max(other) - min(other))


def test_one_row_in_eleven_calibrates_in_every_fold_and_class() -> None:
    labels = np.repeat(np.arange(10), 110)
    drawn = partition(labels, 0)
    assert drawn.calibrates.sum() == len(labels) // CALIBRATING
    assert np.bincount(labels[drawn.calibrates]).tolist() == [10] * 10
    assert np.bincount(drawn.fold[drawn.calibrates]).tolist() == [20] * FOLDS


def test_rare_classes_do_not_calibrate() -> None:
    labels = np.concatenate([np.zeros(200, np.int64), np.repeat(np.arange(1, 30), 5)])
    assert set(labels[partition(labels, 0).calibrates].tolist()) == {0}


def test_partitions_differ_by_number_and_are_the_same_twice() -> None:
    labels = np.repeat(np.arange(3), 50)
    first, again, other = (partition(labels, number) for number in (0, 0, 1))
    assert np.array_equal(first.fold, again.fold)
    assert not np.array_equal(first.fold, other.fold)


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(StageError, match="have 9 rows together; cross-validation needs at least"):
        partition(np.zeros(9, np.int64), 0)


# --- costs ---------------------------------------------------------------------------------------


def test_costs_of_the_paper_s_head() -> None:
    # d = 2048, C = 100, k = 128: 262,144 + 12,800 against 204,800; k* = 95.3
    assert cost.multiply_adds(128, 2048, 100) == 204_800
    assert cost.multiply_adds(64, 2048, 100) == 64 * 2148
    assert cost.break_even(2048, 100) == pytest.approx(95.34, abs=0.01)
    assert cost.multiply_adds(95, 2048, 100) < 204_800 == cost.multiply_adds(96, 2048, 100)
    assert cost.multiply_adds(2048, 2048, 100) == 204_800


def test_a_map_from_its_seed_is_not_stored_and_a_folded_one_is_not_either() -> None:
    assert cost.stored(10, 100, 20, from_seed=True) == 3 + 200 + 20
    assert cost.stored(10, 100, 20, from_seed=False) == 1000 + 200 + 20
    assert cost.stored(50, 100, 20, from_seed=False) == 2000 + 20
    assert cost.shipped_cost(50, 100, 20, shipped="embedding") == 50
    assert cost.shipped_cost(50, 100, 20, shipped="head") == 2000


# --- choices -------------------------------------------------------------------------------------


def hit(count: int) -> str:
    return packed(np.arange(HELD) < count)


def cell(seed: int, hits: list[int], *, kind: str = "gaussian", k: int = 10, **other: Any) -> Cell:
    scores = tuple(
        CellScore(
            l2=l2, converged=True, accuracy=count / HELD, macro_f1=0.5, worst_class_accuracy=0.1,
            temperature=other.get("temperature", 1.0), calibration_error=0.02, margin_kept=0.9,
            correct=hit(count),
        )
        for l2, count in zip((1e-2, 1e-3, 1e-4), hits, strict=True)
    )  # fmt: skip
    return Cell(
        kind=kind, dim_out=k, seed=seed, held_rows=HELD, map_digest="", head_digest="",
        scores=scores, distortion=1.0, distortion_std=0.1, recall=None, separation=0.5,
    )  # fmt: skip


def test_bits_survive_the_way_to_text() -> None:
    bits = np.random.default_rng(0).random(37) < 0.5
    assert np.array_equal(unpacked(packed(bits), 37), bits)


def test_the_l2_of_the_best_mean_is_chosen_of_equals_the_largest() -> None:
    assert choose([cell(0, [30, 36, 30]), cell(1, [34, 30, 32])]).l2 == 1e-3
    assert choose([cell(0, [30, 36, 30]), cell(1, [36, 30, 30])]).l2 == 1e-2
    warm = [cell(0, [30] * 3, temperature=2.0), cell(1, [30] * 3, temperature=0.5)]
    assert choose(warm).temperature == pytest.approx(1.0)


def test_bands_are_student_s() -> None:
    values = [0.9, 0.92, 0.95, 0.91, 0.93]
    found = band(values)
    low, high = stats.t.interval(0.95, 4, loc=np.mean(values), scale=stats.sem(values))
    assert found.interval is not None
    assert (found.interval.low, found.interval.high) == pytest.approx((low, high))
    assert band([0.5]).interval is None
    assert some_band([None, None]) is None
    assert some_band([None, 0.25]) == band([0.25])


def test_losses_are_paired_by_seed() -> None:
    full = [cell(0, [40, 0, 0], kind="full", k=100), cell(1, [36, 0, 0], kind="full", k=100)]
    cells = [cell(0, [38, 0, 0]), cell(1, [36, 0, 0])]
    choice = choose(cells)
    found = swept_map(choice, cells, [one.scores[0] for one in full], SETTING)
    assert found.loss.mean == pytest.approx(0.025)
    assert found.accuracy.mean == pytest.approx(37 / 40)
    assert found.loss_bound > 0.025
    assert (found.data_aware, found.seeded, found.recall) == (False, True, None)
    assert found.multiply_adds == 10 * 120


def swept(kind: str, k: int, loss: float) -> SweptMap:
    choice = Choice(kind=kind, dim_out=k, l2=1e-2, temperature=1.0)
    made = swept_map(
        choice, [cell(0, [30, 0, 0], kind=kind, k=k)], [cell(0, [30, 0, 0]).scores[0]], SETTING
    )
    return dataclasses.replace(made, loss=band([loss]))


FULL = swept("full", 100, 0.0)


def test_the_walk_ends_at_the_first_width_that_does_not_hold() -> None:
    family = [swept("gaussian", k, loss) for k, loss in ((10, 0.005), (50, 0.0), (25, 0.02))]
    assert [one.dim_out for one in held_by_walk(family, 0.01)] == [50]
    assert [one.dim_out for one in held_by_walk(family, 0.02)] == [50, 25, 10]
    assert held_by_walk(family, -0.01) == []


def test_the_cheapest_that_holds_is_recommended() -> None:
    families = {
        "gaussian": [swept("gaussian", 50, 0.0), swept("gaussian", 12, 0.03)],
        "pca": [swept("pca", 50, 0.0), swept("pca", 12, 0.004), swept("pca", 6, 0.02)],
    }
    best, each = recommend(FULL, families, SETTING)
    assert (best.kind, best.dim_out, best.cost) == ("pca", 12, 12 * 120)
    assert "k = 6 loses 2.00 points, more than the 1 allowed" in best.why
    assert [(one.kind, one.dim_out) for one in each] == [("gaussian", 50), ("pca", 12)]
    assert each[0].cost == 2000
    assert "costs what the full head costs" in each[0].why


def test_of_equal_costs_fewer_stored_numbers_win_then_the_smaller_width() -> None:
    same = {kind: [swept(kind, 10, 0.0)] for kind in ("pca", "gaussian")}
    assert recommend(FULL, same, SETTING)[0].kind == "gaussian"  # its map is a seed
    paid = dataclasses.replace(SETTING, shipped="embedding")
    wide = {"gaussian": [swept("gaussian", 60, 0.0)], "pca": [swept("pca", 30, 0.0)]}
    assert recommend(FULL, wide, paid)[0].kind == "pca"
    equal = {kind: [swept(kind, 30, 0.0)] for kind in ("pca", "gaussian")}
    assert recommend(FULL, equal, paid)[0].kind == "gaussian"


def test_what_folds_into_the_full_head_saves_nothing_and_is_not_recommended() -> None:
    folded = {"gaussian": [swept("gaussian", 60, 0.0)], "pca": [swept("pca", 30, 0.0)]}
    best, each = recommend(FULL, folded, SETTING)
    assert (best.kind, best.why) == ("full", "no smaller width holds and saves anything")
    assert [one.dim_out for one in each] == [60, 30]


def test_what_is_shipped_changes_what_is_paid() -> None:
    families = {"gaussian": [swept("gaussian", 50, 0.0)], "pca": [swept("pca", 40, 0.0)]}
    shipped = dataclasses.replace(SETTING, shipped="embedding")
    best, _ = recommend(FULL, families, shipped)
    assert (best.kind, best.cost) == ("pca", 40)


def test_where_nothing_holds_the_full_width_is_kept() -> None:
    best, each = recommend(FULL, {"gaussian": [swept("gaussian", 50, 0.3)]}, SETTING)
    assert (best.kind, best.dim_out, best.cost) == ("full", 100, 2000)
    assert (each[0].kind, each[0].dim_out, each[0].factor) == ("gaussian", 100, 1.0)
    assert "loses 30.00 points" in each[0].why


# --- the test ------------------------------------------------------------------------------------

ROWS = 2000


def cell_on_test(kind: str, k: int, lost: int, seed: int = 0) -> TestCell:
    correct = np.arange(ROWS) >= 100 + lost
    return TestCell(
        kind=kind, dim_out=k, seed=seed, l2=1e-2, temperature=1.0, rows=ROWS,
        accuracy=float(correct.mean()), macro_f1=0.5, worst_class_accuracy=0.1,
        calibration_error=0.02, converged=True, map_digest="", head_digest="",
        correct=packed(correct), full_l2=0.0,
    )  # fmt: skip


def test_each_kind_is_certified_from_its_largest_width_down() -> None:
    cells = {
        ("full", 100): [cell_on_test("full", 100, 0)],
        ("pca", 4): [cell_on_test("pca", 4, 0)],  # no loss, but after one that fails
        ("pca", 10): [cell_on_test("pca", 10, 200)],
        ("pca", 50): [cell_on_test("pca", 50, 2)],
        ("gaussian", 10): [cell_on_test("gaussian", 10, 4 + seed, seed) for seed in range(3)],
    }
    found = certified(cells, tolerance=0.01)
    verdicts = {
        name: tested.certificate.verdict if tested.certificate else None
        for name, tested in found.items()
    }
    assert verdicts == {
        ("full", 100): None, ("pca", 50): "within", ("pca", 10): "worse",
        ("pca", 4): "not tested", ("gaussian", 10): "within",
    }  # fmt: skip
    one = found["gaussian", 10].certificate
    assert one is not None
    assert one.loss == pytest.approx(5 / ROWS)
    assert (one.seeds, one.rows) == (3, ROWS)
    assert found["full", 100].accuracy.mean == pytest.approx(1 - 100 / ROWS)
