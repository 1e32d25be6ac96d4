"""Comparing two ways to teach: hand-computed answers, coverage by simulation, barriers."""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor, nn

from distill.comparing.barrier import between, loss_barrier, measure_statistics
from distill.comparing.search import Among, Around, Space, choose, draw
from distill.comparing.statistics import (
    AHEAD,
    BEHIND,
    NO_DIFFERENCE,
    compare,
    holm,
    reached,
    verdict,
    worst_class_over_seeds,
)
from distill.findings import Trial


def hits(rows: int, wrong: int, *, start: int = 0, seeds: int = 1) -> np.ndarray:
    """Each seed hits all rows but ``wrong`` from ``start`` on."""
    one = np.ones(rows, bool)
    one[start : start + wrong] = False
    return np.stack([one] * seeds)


# --- differences ---------------------------------------------------------------------------------


def test_a_difference_is_ours_minus_theirs() -> None:
    found = compare(hits(200, 10, seeds=3), hits(200, 30, seeds=3))
    assert found.value == pytest.approx(0.1)
    assert 0 < found.interval.low < 0.1 < found.interval.high
    assert found.p < 0.001
    back = compare(hits(200, 30, seeds=3), hits(200, 10, seeds=3))
    assert back.value == pytest.approx(-0.1)
    assert back.p == pytest.approx(found.p, rel=0.2)
    assert back.interval.high == pytest.approx(-found.interval.low, abs=0.005)


def test_equal_answers_show_no_difference_and_still_have_a_width() -> None:
    found = compare(hits(100, 5, seeds=2), hits(100, 5, seeds=2))
    assert (found.value, found.p) == (0.0, 1.0)
    assert found.interval.low < 0 < found.interval.high


def test_only_rows_that_differ_count_and_they_are_paired() -> None:
    # 30 wrong each: the same rows, or none in common
    same = compare(hits(300, 30), hits(300, 30))
    apart = compare(hits(300, 30), hits(300, 30, start=100))
    assert same.value == apart.value == 0.0
    assert same.interval.high < 0.02 < 0.04 < apart.interval.high


def test_few_rows_that_differ_are_no_proof() -> None:
    # five against none: the sign test says 2 / 2^5 = 0.06, a bootstrap of rows alone 0.013
    found = compare(hits(400, 0), hits(400, 5))
    assert 0.03 < found.p < 0.07
    assert compare(hits(400, 0), hits(400, 4)).p > 0.05
    assert compare(hits(400, 0), hits(400, 12)).p < 0.01


def test_p_is_not_below_what_so_many_draws_can_show() -> None:
    assert compare(hits(400, 0), hits(400, 200), draws=99).p == pytest.approx(2 / 100)


def test_seeds_that_disagree_are_told_from_seeds_that_agree() -> None:
    rng = np.random.default_rng(0)
    theirs = rng.random((5, 2000)) < 0.8
    ours = theirs.copy()
    for place, gain in enumerate((0.04, 0.03, 0.02, 0.03, 0.04)):
        ours[place, : int(gain * 2000)] = True
    agree = compare(ours, theirs)
    moody = theirs.copy()
    for place, change in enumerate((0.9, -0.05, 0.9, -0.05, 0.9)):
        moody[place, : int(abs(change) * 2000)] = change > 0
    disagree = compare(moody, theirs)
    assert agree.p < 0.01 < 0.1 < disagree.p
    assert 0 < agree.value < disagree.value


def test_with_many_rows_and_one_seed_the_answer_is_mcnemar_s() -> None:
    ours, theirs = hits(5000, 240, seeds=1), hits(5000, 300, start=4000, seeds=1)
    z = 60 / np.sqrt(540)
    assert compare(ours, theirs, draws=40_000).p == pytest.approx(2 * stats.norm.sf(z), rel=0.2)


def simulated(rng: np.random.Generator, *, spread: float, gap: float = 0.0) -> np.ndarray:
    """Hits (2 ways, 4 seeds, 250 rows): hard and easy rows, seeds that differ by themselves."""
    ease = rng.normal(1.0, 1.0, 250)
    skill = rng.normal(0, spread, (2, 4, 1)) + np.array([gap, 0.0])[:, None, None]
    found: np.ndarray = ease + skill + rng.logistic(0, 0.5, (2, 4, 250)) > 0
    return found


def rate(test: Callable[[np.ndarray, np.ndarray], float], *, spread: float, gap: float) -> float:
    rng = np.random.default_rng(5)
    found = [test(*simulated(rng, spread=spread, gap=gap)) < 0.05 for _ in range(300)]
    return float(np.mean(found))


def p_of(ours: np.ndarray, theirs: np.ndarray) -> float:
    return compare(ours, theirs, draws=600).p


def p_of_rows_alone(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Every answer of every seed taken for a row of its own."""
    gap = (ours.astype(int) - theirs.astype(int)).ravel()
    return float(2 * stats.norm.sf(abs(gap.mean()) / (gap.std() / np.sqrt(gap.size))))


@pytest.mark.parametrize("spread", [0.0, 0.3])
def test_where_there_is_no_difference_one_is_rarely_shown(spread: float) -> None:
    # 5 % nominal; 300 runs have a standard error of 1.3 points
    assert rate(p_of, spread=spread, gap=0.0) <= 0.085


def test_the_simulation_finds_out_a_test_that_forgets_seeds() -> None:
    assert rate(p_of_rows_alone, spread=0.3, gap=0.0) > 0.25


def test_where_there_is_a_difference_it_is_mostly_shown() -> None:
    assert rate(p_of, spread=0.1, gap=0.6) > 0.8


def test_the_interval_covers_the_difference_as_often_as_it_says() -> None:
    rng = np.random.default_rng(11)
    truth = float(np.mean([np.subtract(*simulated(rng, spread=0.2, gap=0.4).mean(axis=(1, 2)))
                           for _ in range(2000)]))  # fmt: skip
    found = [compare(*simulated(rng, spread=0.2, gap=0.4), draws=600) for _ in range(200)]
    covered = np.mean([one.interval.low <= truth <= one.interval.high for one in found])
    assert covered >= 0.91


def test_an_interval_without_zero_goes_with_a_small_p() -> None:
    rng = np.random.default_rng(3)
    for _ in range(30):
        found = compare(*simulated(rng, spread=0.2, gap=0.25), draws=2000)
        if not 0.045 < found.p < 0.055:
            assert (found.p < 0.05) == (not found.interval.low <= 0 <= found.interval.high)


# --- families ------------------------------------------------------------------------------------


def test_holm_s_own_example() -> None:
    # by hand: 4 x 0.005, 3 x 0.01, 2 x 0.03, 1 x 0.04 but not below the one before
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))
    assert holm([0.6, 0.7]) == (1.0, 1.0)
    assert holm([]) == ()


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_between_no_correction_and_bonferroni_s(values: list[float]) -> None:
    found = holm(values)
    for raw, adjusted in zip(values, found, strict=True):
        assert raw <= adjusted <= min(1.0, len(values) * raw)
    order = np.argsort(values, kind="stable")
    assert (np.diff(np.array(found)[order]) >= 0).all()


def test_verdicts_go_by_the_adjusted_p() -> None:
    assert verdict(0.01, 0.04) == AHEAD
    assert verdict(-0.01, 0.04) == BEHIND
    assert verdict(0.01, 0.05) == NO_DIFFERENCE
    assert verdict(0.0, 0.0) == NO_DIFFERENCE


# --- speed, worst class --------------------------------------------------------------------------


def entry(epoch: int, accuracy: float) -> dict[str, float]:
    return {
        "epoch": epoch, "step": 10 * epoch, "seconds": 1.5 * epoch, "validation_accuracy": accuracy,
    }  # fmt: skip


def test_reached_is_the_first_epoch_near_the_best() -> None:
    history = [entry(1, 0.5), entry(2, 0.76), entry(3, 0.7), entry(4, 0.8), entry(5, 0.78)]
    found = reached(history)  # 95 % of 0.8 is 0.76
    assert found == (2, 20, 3.0)
    assert reached(history, share=1.0) == (4, 40, 6.0)
    assert reached([]) is None


def test_the_worst_class_is_that_of_all_seeds_together() -> None:
    labels = np.array([0, 0, 1, 1])
    predicted = np.array([[0, 1, 1, 1], [0, 0, 0, 1]])  # class 0: 3 of 4; class 1: 3 of 4
    assert worst_class_over_seeds(labels, predicted) == (0, 0.75)
    predicted[1, 2:] = 0  # class 1: 2 of 4
    assert worst_class_over_seeds(labels, predicted) == (1, 0.5)


# --- random search -------------------------------------------------------------------------------

SPACE: Space = {"learning_rate": Around(factor=4.0), "temperature": Among(values=(1.0, 2.0, 4.0))}
DEFAULTS = {"learning_rate": 0.01, "temperature": 2.0, "kl_weight": 0.0}


def test_the_first_trial_is_the_defaults() -> None:
    found = draw(SPACE, DEFAULTS, trial=0, seed=3)
    assert found == {"learning_rate": 0.01, "temperature": 2.0}


def test_draws_are_log_uniform_around_the_default_and_equal_for_equal_seeds() -> None:
    rates = [draw(SPACE, DEFAULTS, trial=t, seed=3)["learning_rate"] for t in range(1, 400)]
    logs = np.log(np.array(rates) / 0.01) / np.log(4.0)
    assert stats.kstest(logs, "uniform", args=(-1, 2)).pvalue > 0.01
    assert rates[4] == draw(SPACE, DEFAULTS, trial=5, seed=3)["learning_rate"]
    assert rates[4] != draw(SPACE, DEFAULTS, trial=5, seed=4)["learning_rate"]
    drawn = {draw(SPACE, DEFAULTS, trial=t, seed=3)["temperature"] for t in range(1, 40)}
    assert drawn == {1.0, 2.0, 4.0}


def test_two_methods_share_the_luck_of_a_trial_s_learning_rate() -> None:
    other: Space = {"kl_weight": Around(factor=10.0), **SPACE}
    ours = draw(SPACE, DEFAULTS, trial=2, seed=0)
    theirs = draw(other, DEFAULTS | {"learning_rate": 0.02}, trial=2, seed=0)
    assert theirs["learning_rate"] == pytest.approx(2 * ours["learning_rate"])
    assert theirs["kl_weight"] == 0.0  # a term that is off stays off


def test_two_settings_of_a_trial_are_drawn_apart() -> None:
    space: Space = {"kl_weight": Around(factor=4.0), "ce_weight": Around(factor=4.0)}
    both = [draw(space, {"kl_weight": 1.0, "ce_weight": 1.0}, trial=t, seed=0) for t in range(40)]
    logs = np.log([[one["kl_weight"], one["ce_weight"]] for one in both[1:]])
    assert abs(np.corrcoef(logs.T)[0, 1]) < 0.5


def trial(number: int, accuracy: float, loss: float | None) -> Trial:
    return Trial(number=number, settings={}, accuracy=accuracy, loss=loss, seconds=1.0)


def test_the_best_trial_has_the_highest_accuracy_then_the_lowest_loss() -> None:
    trials = [trial(0, 0.7, 1.0), trial(1, 0.8, 1.2), trial(2, 0.8, 1.1), trial(3, 0.8, 1.1)]
    assert choose(trials).number == 2
    assert choose(trials[::-1]).number == 2
    assert choose([trial(0, 0.0, None), trial(1, 0.0, 9.0)]).number == 1  # the first diverged


# --- barriers ------------------------------------------------------------------------------------


class Well(nn.Module):
    """One number; its loss is what the test says."""

    def __init__(self) -> None:
        super().__init__()
        self.at = nn.Parameter(torch.zeros(1))


def state(at: float) -> dict[str, Tensor]:
    return {"at": torch.tensor([at])}


def nothing() -> Iterator[Mapping[str, Tensor]]:
    return iter(())


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        pytest.param(lambda x: (x * x - 1) ** 2, 1.0, id="two wells"),  # 1 at 0, 0 at both ends
        pytest.param(lambda x: x * x, 0.0, id="one bowl"),
        pytest.param(lambda x: 3 * x + 4, 0.0, id="a slope"),
        pytest.param(lambda x: x - (x * x - 1), 1.0, id="a hill on a slope"),
    ],
)
def test_a_barrier_is_the_rise_above_the_line(
    loss: Callable[[float], float], expected: float
) -> None:
    def evaluate(network: nn.Module) -> float:
        return float(loss(float(network.get_parameter("at").detach())))

    found = loss_barrier(Well, state(-1.0), state(1.0), batches=nothing, evaluate=evaluate)
    assert found == pytest.approx(expected, abs=1e-5)


def test_states_in_between_keep_whole_numbers() -> None:
    first = {"w": torch.tensor([0.0, 2.0]), "n": torch.tensor(7)}
    second = {"w": torch.tensor([1.0, 4.0]), "n": torch.tensor(9)}
    found = between(first, second, 0.25)
    assert found["w"].tolist() == [0.25, 2.5]
    assert int(found["n"]) == 7


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(1)
        self.drop = nn.Dropout(0.5)

    def forward(self, prepared: Mapping[str, Tensor]) -> Tensor:
        rows: Tensor = self.drop(self.norm(prepared["x"]))
        return rows


def test_statistics_are_the_mean_over_batches_and_nothing_is_dropped() -> None:
    batches = [torch.tensor([[0.0], [2.0]]), torch.tensor([[10.0], [14.0]])]
    network = Normed()
    network.get_buffer("norm.running_mean").fill_(99.0)
    network.get_buffer("norm.num_batches_tracked").fill_(5)
    network.drop.register_forward_hook(lambda module, given, made: torch.testing.assert_close(
        made, given[0]) if not module.training else pytest.fail("dropout is on"))  # fmt: skip
    measure_statistics(network, lambda: ({"x": rows} for rows in batches))
    assert float(network.get_buffer("norm.running_mean")) == pytest.approx((1 + 12) / 2)
    assert float(network.get_buffer("norm.running_var")) == pytest.approx((2 + 8) / 2)  # unbiased
    assert network.norm.momentum == 0.1
    assert not network.training


def test_a_barrier_measures_statistics_anew_at_each_point() -> None:
    """Two states that differ in statistics alone are one student: no barrier."""
    rows = {"x": torch.tensor([[1.0], [3.0]])}
    first, second = Normed(), Normed()
    second.get_buffer("norm.running_mean").fill_(50.0)
    losses: list[float] = []

    def evaluate(network: nn.Module) -> float:
        losses.append(float(network(rows).detach().square().sum()))
        return losses[-1]

    found = loss_barrier(
        Normed, first.state_dict(), second.state_dict(), batches=lambda: [rows],
        evaluate=evaluate, points=5,
    )  # fmt: skip
    assert found == pytest.approx(0.0, abs=1e-6)
    assert len(losses) == 5
    np.testing.assert_allclose(losses, losses[0])
