"""What theory allows a random map: hand-computed limits, sound maps pass, broken ones fail."""

import numpy as np
import pytest
from scipy import stats

from distill import limits
from distill.limits import Overlap, check_ratios, check_recall, mean_limits, overlap, std_limit
from projections import make_projection, participation_ratio
from projections.bound import orthonormal_ratio_std

PLANE = np.array([[1, 0], [0, 2], [3, 3]], np.float32)  # squared cosines 0, 1/2, 1/2


def test_overlap_by_hand() -> None:
    found = overlap(PLANE, pairs=3)
    # with each difference's own cosine: (3 * 1 + 2 * (0 + 1/2 + 1/2)) / 9, fourth powers alike
    assert found.second == pytest.approx(5 / 9)
    assert found.fourth == pytest.approx((3 + 2 * (1 / 4 + 1 / 4)) / 9)


def test_overlap_speaks_of_all_pairs_when_it_sees_a_part() -> None:
    # two other pairs are at 1/3 on average; one in a hundred is the pair itself
    assert overlap(PLANE, pairs=100).second == pytest.approx(1 / 3 + 2 / 3 / 100)


def test_a_single_difference_is_all_alike() -> None:
    assert overlap(PLANE[:1], pairs=1) == Overlap(second=1.0, fourth=1.0)


def test_overlap_is_one_over_the_participation_ratio_of_a_plain_cloud() -> None:
    rng = np.random.default_rng(0)
    rows = (rng.standard_normal((2000, 40)) * np.linspace(1, 3, 40)).astype(np.float32)
    found = overlap(rows[:1000] - rows[1000:], pairs=10**9)
    assert 1 / found.second == pytest.approx(participation_ratio(rows), rel=0.1)


@pytest.mark.parametrize("shape", [(30, 80), (80, 30)])
def test_participation_is_the_projections_own(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    rows = (rng.standard_normal(shape) * np.linspace(1, 4, shape[1]) + 100).astype(np.float32)
    assert limits.participation(rows) == pytest.approx(participation_ratio(rows), rel=1e-4)


@pytest.mark.parametrize("seed", range(8))
def test_participation_of_rows_on_a_line_is_no_less_than_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    along, direction = rng.standard_normal((300, 1)), rng.standard_normal((1, 16))
    assert 1.0 <= limits.participation((along @ direction).astype(np.float32)) < 1.00001


def test_limits_of_the_mean_by_hand() -> None:
    # std 0.125 (k = 128), ||A|| = 0.1: 0.0125 sqrt(20) = 0.05590, and 0.015625 * 0.1 * 10 above
    low, high = mean_limits(0.125, 128, Overlap(second=0.01, fourth=0.0))
    assert low == pytest.approx(1 - 0.05590, abs=1e-5)
    assert high == pytest.approx(1 + 0.05590 + 0.015625, abs=1e-5)


def test_limits_of_one_direction_are_those_of_a_chi_squared_number() -> None:
    for k in (1, 2, 8, 64):
        low, high = mean_limits(np.sqrt(2 / k), k, Overlap(second=1.0, fourth=1.0))
        outside = stats.chi2.cdf(k * low, k) + stats.chi2.sf(k * high, k)
        assert 0 < outside < 2 * np.exp(-limits.T), k
        assert low > 0, "a map that loses everything must not pass"


def test_a_pair_lies_outside_the_outlier_limits_as_rarely_as_promised() -> None:
    for k in (1, 2, 8, 64, 1024):
        low, high = limits.outlier_limits(np.sqrt(2 / k), k)
        outside = stats.chi2.cdf(k * low, k) + stats.chi2.sf(k * high, k)
        assert 0 < outside < 2e-5 < 2e-3 * limits.OUTLIERS * 1.05, k


@pytest.mark.parametrize(
    ("d", "k"), [(2, 1), (3, 2), (4, 3), (8, 4), (8, 7), (64, 32), (64, 60), (2048, 128)]
)
def test_a_pair_under_an_orthonormal_map_lies_outside_as_rarely(d: int, k: int) -> None:
    low, high = limits.outlier_limits(orthonormal_ratio_std(d, k), k)
    ratio = stats.beta(k / 2, (d - k) / 2, scale=d / k)
    assert low > 0
    assert ratio.cdf(low) + ratio.sf(high) < 2.1e-5


@pytest.mark.parametrize(("d", "k"), [(2, 1), (4, 3), (8, 7)])
def test_sound_orthonormal_maps_of_few_dimensions_pass(d: int, k: int) -> None:
    std = orthonormal_ratio_std(d, k)
    for seed in range(20):
        rows = np.random.default_rng(seed).standard_normal((2000, d)).astype(np.float32)
        matrix = make_projection("orthogonal", dim_in=d, dim_out=k, seed=seed).matrix
        before, after = (
            np.square(found, dtype=np.float64).sum(axis=1) for found in (rows, rows @ matrix)
        )
        shared = overlap(rows[:500], pairs=len(rows))
        checks = check_ratios(
            after / before, after[:500] / before[:500],
            std=std, dim_out=k, shared=shared, near_shared=shared, rounding=1e-4,
        )  # fmt: skip
        assert all(check.passed for check in checks), checks


def test_a_map_that_turns_only_has_no_room() -> None:
    assert mean_limits(0.0, 9, Overlap(second=0.5, fourth=0.5)) == pytest.approx((1.0, 1.0))
    assert std_limit(0.0, 9, Overlap(second=0.5, fourth=0.5)) == 0.0


def test_limit_of_the_spread_by_hand() -> None:
    # k = 32: 0.25 sqrt(1 + (8 + 32/32) sqrt(2.375 * 0.01)) = 0.25 sqrt(1 + 9 * 0.154110)
    shared = Overlap(second=0.1, fourth=0.01)
    assert std_limit(0.25, 32, shared) == pytest.approx(0.25 * np.sqrt(2.38699), rel=1e-5)


def failed(ratios: np.ndarray, near: np.ndarray, *, std: float = 0.125) -> list[str]:
    shared = Overlap(second=0.01, fourth=1e-3)
    checks = check_ratios(
        ratios, near, std=std, dim_out=128, shared=shared, near_shared=shared, rounding=1e-4
    )
    assert [check.name for check in checks] == ["scale", "spread", "outliers", "neighbours"]
    return [check.name for check in checks if not check.passed]


def drawn(rows: int = 4000, k: int = 128) -> np.ndarray:
    return np.random.default_rng(0).chisquare(k, rows) / k


def test_ratios_as_theory_draws_them_pass() -> None:
    assert failed(drawn(), drawn(900)) == []


def test_each_check_fails_for_its_own_fault_alone() -> None:
    sound = drawn()
    wide = 1 + (sound - 1) * 1.6
    torn = sound.copy()
    torn[::50] = 2.5  # 2 % of the pairs
    assert failed(sound * 1.1025, sound) == ["scale"]  # lengths too large by 5 %
    assert failed(sound * 0.93, sound) == ["scale"]
    assert failed(sound, sound * 1.1) == ["neighbours"]
    assert failed(wide, sound) == ["spread"]
    assert "outliers" in failed(torn, sound)
    assert failed(sound * 0, sound * 0) == ["scale", "outliers", "neighbours"]


def test_a_check_says_what_it_found_and_what_it_allows() -> None:
    shared = Overlap(second=0.01, fourth=1e-3)
    scale = check_ratios(
        np.full(5, 1.5), np.ones(5), std=0.125, dim_out=128, shared=shared, near_shared=shared,
        rounding=0.0,
    )[0]  # fmt: skip
    assert scale.detail == "the mean ratio is 1.5; 0.9441 to 1.072 of a sound map"


def test_recall_must_be_above_what_a_shuffle_gives() -> None:
    # chance 0.01 over 10,000 drawn: five standard errors are 0.004975
    assert check_recall(0.0150, chance=0.01, drawn=10_000).passed
    assert not check_recall(0.0149, chance=0.01, drawn=10_000).passed
    assert check_recall(1.0, chance=1.0, drawn=10).passed  # k is all there is
