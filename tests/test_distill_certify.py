"""Certification: hand-computed bounds, the numbers planned with, coverage by simulation."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import stdtrit
from scipy.stats import binom

from distill import certify as c
from distill.findings import Certificate


def lost_of(rows: int, lost: int, gained: int, seeds: int = 1) -> np.ndarray:
    one = np.zeros(rows, np.int8)
    one[:lost] = 1
    one[lost : lost + gained] = -1
    return np.stack([one] * seeds)


def verdict_of(rows: int, lost: int, gained: int, tolerance: float = 0.01) -> str:
    return c.certify(lost_of(rows, lost, gained), tolerance=tolerance).verdict


def test_losses_count_what_the_full_head_hits_and_the_other_misses() -> None:
    full = np.array([True, True, False, False])
    other = np.array([[True, False, True, False], [False, False, False, False]])
    assert c.losses(full, other).tolist() == [[0, 1, -1, 0], [1, 1, 0, 0]]


@pytest.mark.parametrize(
    ("rows", "share", "within", "too_many"),
    [(360, 0.0023, 0, 2), (808, 0.0240, 18, 22), (2305, 0.0819, 188, 190)],
)
def test_planning_says_how_much_discordance_a_certificate_allows(
    rows: int, share: float, within: int, too_many: int
) -> None:
    found = c.allowed_discordance(rows, 0.01)
    assert found == pytest.approx(share, abs=0.0001)
    assert found < rows * (0.01 / c.Z) ** 2  # what the normal approximation would allow
    assert within / rows < found < too_many / rows
    assert verdict_of(rows, within // 2, within // 2) == c.WITHIN
    assert verdict_of(rows, too_many // 2, too_many // 2) == c.UNDECIDED
    assert c.allowed_discordance(100, 0.01) == 0.0


def test_no_discordant_row_proves_little_where_rows_are_few() -> None:
    # the rule of three: nothing seen among n rows bounds the share by 1 - 0.05^(1/n)
    for rows in (100, 1000):
        exact = 1 - 0.05 ** (1 / rows)
        assert exact <= c.certify(lost_of(rows, 0, 0), tolerance=0.01).high < 1.15 * exact
    assert verdict_of(326, 0, 0) == c.WITHIN
    assert verdict_of(325, 0, 0) == c.UNDECIDED


def test_one_sided_losses_are_bounded_nearly_exactly() -> None:
    found = c.certify(lost_of(200, 4, 0), tolerance=0.01)
    assert found.loss == pytest.approx(0.02)
    assert found.high == pytest.approx(0.04518, rel=0.03)  # Clopper-Pearson for 4 of 200
    assert 0 < found.low <= 0.00688  # the exact lower bound


def score_by_likelihood(lost: float, gained: float, rows: int, loss: float) -> float:
    """Tango's statistic as he defines it: the likeliest share found by a search."""

    def unlikely(share: float) -> float:
        rest = rows - lost - gained
        shares = ((lost, share + loss), (gained, share), (rest, 1 - loss - 2 * share))
        return -float(sum(count * np.log(max(p, 1e-300)) for count, p in shares))

    limits = (max(0.0, -loss), (1 - loss) / 2)
    share = minimize_scalar(unlikely, bounds=limits, method="bounded", options={"xatol": 1e-12}).x
    return float((lost - gained - rows * loss) / np.sqrt(rows * (2 * share + loss - loss**2)))


@given(rows=st.integers(20, 2000), data=st.data())
def test_the_score_bound_solves_the_score_equation(rows: int, data: st.DataObject) -> None:
    lost = data.draw(st.integers(0, rows // 3))
    gained = data.draw(st.integers(0, rows // 3))
    high = c.score_bound(float(lost), float(gained), rows)
    assert high > (lost - gained) / rows
    assert score_by_likelihood(lost + c.UNSEEN, gained, rows, high) == pytest.approx(-c.Z, abs=1e-3)


def chance_of_within(rows: int, lost: float, gained: float, tolerance: float) -> float:
    """By enumeration of all counts of lost and gained rows that can occur at all."""
    both = lost + gained
    most = int(min(rows, rows * both + 8 * np.sqrt(rows * both) + 12))
    found = 0.0
    for count in range(most + 1):
        chance = binom.pmf(count, rows, both)
        # the verdict turns once, as more of the discordant rows are lost
        low, high = -1, count + 1
        while high - low > 1:
            middle = (low + high) // 2
            within = c.score_bound(float(middle), float(count - middle), rows) <= tolerance
            low, high = (middle, high) if within else (low, middle)
        if low >= 0:
            found += float(chance * binom.cdf(low, count, lost / both))
    return found


@pytest.mark.parametrize(
    ("rows", "tolerance"),
    [(44, 0.1), (60, 0.01), (120, 0.05), (143, 0.02), (360, 0.01), (465, 0.01), (580, 0.005)],
)
def test_a_loss_of_the_tolerance_is_certified_one_time_in_twenty_at_most(
    rows: int, tolerance: float
) -> None:
    for lost in (1.0001, 1.05, 1.2, 1.5, 2, 3):
        share = lost * tolerance
        assert chance_of_within(rows, share, share - tolerance, tolerance) <= 0.05


def test_without_what_is_unseen_more_would_be_certified(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(c, "UNSEEN", 0.0)
    assert chance_of_within(44, 0.10001, 0.00001, 0.1) > 0.055


def test_verdicts() -> None:
    assert verdict_of(1000, 60, 0) == c.WORSE
    assert verdict_of(1000, 0, 60) == c.WITHIN
    assert verdict_of(1000, 20, 10) == c.UNDECIDED


def test_the_bounds_are_those_of_the_normal_where_rows_are_many() -> None:
    lost = lost_of(20_000, 700, 500)
    low, high = c.bounds(lost, draws=20_000)
    half = c.Z * lost.std() / np.sqrt(20_000)
    assert (low, high) == pytest.approx((0.01 - half, 0.01 + half), abs=1e-4)


def test_seeds_that_differ_widen_the_bound_and_copies_do_not() -> None:
    rng = np.random.default_rng(0)
    base = rng.choice(np.array([-1, 0, 1], np.int8), size=2000, p=[0.02, 0.96, 0.02])
    copies = np.stack([base] * 5)
    alone = c.bounds(base[None])
    assert c.bounds(copies) == pytest.approx(alone, abs=5e-4)
    apart = copies.copy()
    for place in range(5):  # losses of 0, 1, … 4 points on rows that were equal
        equal = np.flatnonzero(base == 0)[: 20 * place]
        apart[place, equal] = 1
    low, high = c.bounds(apart)
    spread = np.std([0, 0.01, 0.02, 0.03, 0.04], ddof=1) / np.sqrt(5)
    within = np.sqrt(apart.mean(axis=0).var() / 2000)
    freedom = 4 * (1 + (within / spread) ** 2) ** 2  # Satterthwaite's, of five seeds
    half = stdtrit(freedom, 0.95) * np.hypot(spread, within)
    assert high - low == pytest.approx(2 * half, rel=1e-6)
    assert high - low > 1.5 * (alone[1] - alone[0])


def plain_resampled(lost: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """By definition: rows and seeds drawn one by one."""
    rng = np.random.default_rng(seed)
    seeds, rows = lost.shape
    few = max(seeds - 1, 1)
    return np.array([
        lost[rng.integers(0, seeds, few)][:, rng.integers(0, rows, rows)].mean()
        for _ in range(draws)
    ])  # fmt: skip


@pytest.mark.parametrize("seeds", [1, 2, 5])
def test_drawing_numbers_of_rows_is_drawing_rows(seeds: int) -> None:
    rng = np.random.default_rng(seeds)
    lost = rng.integers(-1, 2, (seeds, 60)).astype(np.int8)
    fast, plain = (f(lost, draws=20_000, seed=1) for f in (c.resampled, plain_resampled))
    assert fast.mean() == pytest.approx(plain.mean(), abs=4 * plain.std() / 100)
    assert fast.std() == pytest.approx(plain.std(), rel=0.03)
    assert np.quantile(fast, 0.95) == pytest.approx(np.quantile(plain, 0.95), abs=0.02)


def false_certificates(make: Callable[[np.random.Generator], np.ndarray], runs: int) -> float:
    rng = np.random.default_rng(7)
    found = [c.certify(make(rng), tolerance=0.01, draws=600).verdict for _ in range(runs)]
    return found.count(c.WITHIN) / runs


@pytest.mark.parametrize(
    ("rows", "gained"),
    [(360, 0.0), (808, 0.0), (808, 0.02), (2305, 0.0), (2305, 0.01), (2305, 0.04)],
)
def test_a_loss_of_the_tolerance_is_rarely_certified(rows: int, gained: float) -> None:
    def make(rng: np.random.Generator) -> np.ndarray:
        chances = [gained, 0.99 - 2 * gained, gained + 0.01]
        return rng.choice(np.array([-1, 0, 1], np.int8), size=(1, rows), p=chances)

    # 5 % nominal; 500 runs have a standard error of one point
    assert false_certificates(make, 500) <= 0.08


def test_a_loss_that_differs_between_seeds_is_rarely_certified() -> None:
    def make(rng: np.random.Generator) -> np.ndarray:
        extra = np.clip(rng.normal(0.01, 0.004, 5), 0, None)  # each seed's own loss
        common = rng.choice(np.array([-1, 0, 1], np.int8), size=1500, p=[0.01, 0.98, 0.01])
        own = (rng.random((5, 1500)) < extra[:, None] / 0.98).astype(np.int8)
        return np.where(common == 0, own, common).astype(np.int8)

    assert false_certificates(make, 400) <= 0.07


def test_no_loss_is_certified_as_often_as_planned() -> None:
    def make(rng: np.random.Generator) -> np.ndarray:
        return rng.choice(np.array([-1, 0, 1], np.int8), size=(1, 2305), p=[0.01, 0.98, 0.01])

    # z = 0.01 / sqrt(0.02 / 2305) = 3.4 against 1.645: a power of 96 %
    assert false_certificates(make, 200) >= 0.9


def test_rows_needed_decide_when_they_are_there() -> None:
    lost = lost_of(1000, 20, 15)
    needed = c.rows_needed(lost, 0.01)
    assert needed is not None
    normal = c.Z**2 * (0.035 - 0.005**2) / 0.005**2
    assert normal < needed < 1.1 * normal
    times = needed / 1000
    enough = lost_of(int(1.1 * needed), round(1.1 * times * 20), round(1.1 * times * 15))
    assert c.certify(enough, tolerance=0.01).verdict == c.WITHIN
    fewer = lost_of(needed // 2, round(times * 10), round(times * 7.5))
    assert c.certify(fewer, tolerance=0.01).verdict == c.UNDECIDED


@pytest.mark.parametrize(("rows", "lost"), [(120, 0), (600, 3)])
def test_as_many_rows_as_are_said_decide_and_one_less_does_not(rows: int, lost: int) -> None:
    """With the same shares, which so many rows may not hold exactly."""
    needed = c.rows_needed(lost_of(rows, lost, 0), 0.01)
    assert needed is not None

    def decides(count: int) -> bool:
        found = lost / rows * count
        return c.score_bound(found, 0.0, count) <= 0.01 or -c.score_bound(0.0, found, count) > 0.01

    assert decides(needed)
    assert not decides(needed - 1)


def test_rows_cannot_decide_what_seeds_leave_open() -> None:
    assert c.rows_needed(lost_of(1000, 20, 10), 0.01) is None  # the loss is the tolerance
    wild = np.concatenate([lost_of(1000, 100, 0), lost_of(1000, 0, 90)])
    assert c.rows_needed(wild, 0.01) is None


def certificates(verdicts: list[str]) -> Callable[[], list[Certificate]]:
    examples = {
        c.WITHIN: lost_of(5000, 5, 5), c.WORSE: lost_of(5000, 500, 0),
        c.UNDECIDED: lost_of(500, 10, 5),
    }  # fmt: skip

    def test_of(verdict: str) -> Callable[[], Certificate]:
        return lambda: c.certify(examples[verdict], tolerance=0.01)

    return lambda: list(c.fixed_sequence(test_of(verdict) for verdict in verdicts))


@given(st.lists(st.sampled_from([c.WITHIN, c.WORSE, c.UNDECIDED]), max_size=6))
def test_nothing_counts_after_the_first_that_is_not_within(verdicts: list[str]) -> None:
    found = [one.verdict for one in certificates(verdicts)()]
    shown = list(itertools.takewhile(lambda verdict: verdict == c.WITHIN, verdicts))
    first = verdicts[len(shown) : len(shown) + 1]
    rest = [c.NOT_TESTED] * (len(verdicts) - len(shown) - len(first))
    assert found == shown + first + rest


def test_the_bound_over_folds_draws_folds_and_rows() -> None:
    lost = [lost_of(400, 8, 8)[0] for _ in range(5)]
    half = c.Z * np.sqrt(0.04 / 2000)
    assert c.fold_bound(lost) == pytest.approx(half, rel=0.12)
    apart = [lost_of(400, 8 + 8 * place, 8)[0] for place in range(5)]
    assert c.fold_bound(apart) - 0.04 > 1.5 * half


def test_the_same_seed_gives_the_same_bits() -> None:
    lost = np.random.default_rng(3).integers(-1, 2, (5, 300)).astype(np.int8)
    assert c.certify(lost, tolerance=0.01) == c.certify(lost, tolerance=0.01)
    once, again = (c.resampled(lost, draws=100, seed=seed) for seed in (1, 2))
    assert not np.array_equal(once, again)
