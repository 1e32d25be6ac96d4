"""Nested paths: hand-made tables, every setting tried, dynamic programming."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from students.nested.errors import BudgetError, CalibrationError, NestedError, RankError
from students.nested.path import (
    Candidates,
    Setting,
    best_setting,
    candidate_ranks,
    candidates,
    greedy_path,
    uniform_path,
    useful_ranks,
)


def layer(
    name: str, ranks: Sequence[int], costs: Sequence[float], damages: Sequence[float]
) -> Candidates:
    harms = {rank: float(harm) for rank, harm in zip(ranks, damages, strict=True)}
    return candidates(
        name, harms, cost=dict(zip(ranks, map(float, costs), strict=True)).__getitem__
    )


# a: 8 -> 4 saves 40 FLOPs at 0.1 a FLOP, 4 -> 2 saves 20 at 0.5
# b: 8 -> 6 would save 10 at 0.4, but 8 -> 4 saves 40 at 0.2, and 4 -> 1 saves 40 at 0.4
A = layer("a", [8, 4, 2], [80, 40, 20], [0, 4, 14])
B = layer("b", [1, 4, 6, 8], [20, 60, 90, 100], [24, 8, 4, 0])


def told(path: Sequence[Setting]) -> list[tuple[int, int, float, float]]:
    return [(at.ranks["a"], at.ranks["b"], at.cost, at.damage) for at in path]


def test_the_path_takes_the_least_damage_per_flop_first_and_skips_what_lies_above_the_hull() -> (
    None
):
    assert told(greedy_path([A, B])) == [
        (8, 8, 180, 0),
        (4, 8, 140, 4),
        (4, 4, 100, 12),
        (4, 1, 60, 28),
        (2, 1, 40, 38),
    ]


def test_one_rank_for_all_takes_what_each_layer_has_of_at_least_that_rank() -> None:
    assert told(uniform_path([A, B])) == [
        (8, 8, 180, 0),
        (8, 6, 170, 4),
        (4, 4, 100, 12),
        (2, 4, 80, 22),
        (2, 1, 40, 38),
    ]


def test_the_best_setting_of_a_cost_need_not_lie_on_the_path() -> None:
    best = [best_setting([A, B], cost=cost) for cost in (180.0, 130.0, 129.0, 50.0, 40.0)]
    assert told(best) == [
        (8, 8, 180, 0),
        (4, 6, 130, 8),
        (4, 4, 100, 12),
        (2, 1, 40, 38),
        (2, 1, 40, 38),
    ]
    with pytest.raises(
        BudgetError, match="ranks of 39 FLOPs are asked for, and the lowest cost 40"
    ):
        best_setting([A, B], cost=39.0)


def test_a_rank_that_saves_nothing_is_no_candidate() -> None:
    # beyond break-even rank 6 costs what the full rank does, and 2 costs more than 3
    costs = {8: 50.0, 6: 50.0, 3: 29.0, 2: 30.0, 1: 29.0}
    assert useful_ranks([2, 8, 6, 1, 3, 8], cost=costs.__getitem__) == [3, 8]
    dense = layer("a", list(costs), list(costs.values()), [0, 0, 2, 1, 9])
    assert dense.ranks.tolist() == [3, 8]
    assert dense.damages.tolist() == [2, 0]
    # a table costs nothing at any rank: it stays as it is
    assert useful_ranks([1, 2, 4], cost=lambda _: 0.0) == [4]


def test_points_on_a_line_are_all_taken_in_order() -> None:
    line = layer("a", [4, 3, 2, 1], [40, 30, 20, 10], [0, 1, 2, 3])
    assert [at.ranks["a"] for at in greedy_path([line])] == [4, 3, 2, 1]
    free = layer("a", [4, 3, 2, 1], [40, 30, 20, 10], [0, 0, 0, 3])
    assert [at.ranks["a"] for at in greedy_path([free])] == [4, 3, 2, 1]


def test_candidate_ranks_lie_about_a_factor_apart_and_end_at_the_full_rank() -> None:
    assert candidate_ranks(64, count=7) == [1, 2, 4, 8, 16, 32, 64]
    assert candidate_ranks(384, lowest=24, count=5) == [24, 48, 96, 192, 384]
    assert candidate_ranks(3, count=8) == [1, 2, 3]
    # 72.3, 40.8 and 23.0 between: multiples of 16 but for the last, too low to be rounded so
    assert candidate_ranks(128, lowest=13, count=5) == [13, 23, 48, 80, 128]
    assert candidate_ranks(100, lowest=90, count=3) == [90, 96, 100]
    assert candidate_ranks(40, lowest=33, count=3) == [33, 40]  # 36.3 is nearest to 32
    for full, lowest, count in ((8, 0, 8), (8, 9, 8), (8, 1, 1)):
        with pytest.raises(RankError, match=f"from 1 or more to 8, got {count} from {lowest}"):
            candidate_ranks(full, lowest=lowest, count=count)


@st.composite
def tables(draw: Any, *, most_layers: int = 4, most_ranks: int = 4) -> list[Candidates]:
    """Layers with any damages, noise and ties included; full ranks do no damage."""
    found = []
    for at in range(draw(st.integers(1, most_layers))):
        count = draw(st.integers(1, most_ranks))
        ranks = np.cumsum(draw(st.lists(st.integers(1, 5), min_size=count, max_size=count)))
        costs = 7 + np.cumsum(draw(st.lists(st.integers(0, 9), min_size=count, max_size=count)))
        damages = draw(st.lists(st.integers(0, 20), min_size=count, max_size=count))
        scaled = [damage / 16 for damage in damages[:-1]] + [0.0]
        found.append(layer(f"layer{at}", ranks.tolist(), costs.tolist(), scaled))
    return found


def every_setting(layers: Sequence[Candidates]) -> list[tuple[float, float]]:
    """(cost, damage) of each combination."""
    pairs = [list(zip(at.costs, at.damages, strict=True)) for at in layers]
    return [
        (float(sum(cost for cost, _ in chosen)), float(sum(harm for _, harm in chosen)))
        for chosen in itertools.product(*pairs)
    ]


@given(layers=tables(), share=st.floats(0, 1))
def test_dynamic_programming_finds_what_trying_everything_finds(
    layers: list[Candidates], share: float
) -> None:
    every = every_setting(layers)
    low, high = min(cost for cost, _ in every), max(cost for cost, _ in every)
    budget = low + share * (high - low)
    best = best_setting(layers, cost=budget)
    assert best.damage == min(harm for cost, harm in every if cost <= budget * (1 + 1e-9))
    check_sums(layers, best)
    assert best.cost <= budget * (1 + 1e-9)


@given(layers=tables())
def test_each_point_of_the_path_is_the_best_of_its_cost(layers: list[Candidates]) -> None:
    for point in greedy_path(layers):
        assert point.damage == best_setting(layers, cost=point.cost).damage


@given(layers=tables(most_layers=6, most_ranks=6))
def test_ranks_only_fall_and_every_step_saves(layers: list[Candidates]) -> None:
    path = greedy_path(layers)
    assert path[0].ranks == {at.layer: int(at.ranks[-1]) for at in layers}
    assert path[-1].cost == sum(at.costs[0] for at in layers)
    for before, after in itertools.pairwise(path):
        lowered = [name for name in before.ranks if after.ranks[name] != before.ranks[name]]
        assert len(lowered) == 1
        assert after.ranks[lowered[0]] < before.ranks[lowered[0]]
        assert after.cost < before.cost
        assert after.damage >= before.damage
    for point in path:
        check_sums(layers, point)


@given(layers=tables(most_layers=6, most_ranks=6))
def test_the_path_does_no_more_damage_than_one_rank_for_all_at_no_more_cost(
    layers: list[Candidates],
) -> None:
    uniform = uniform_path(layers)
    assert uniform[0].ranks == greedy_path(layers)[0].ranks
    for before, after in itertools.pairwise(uniform):
        assert before.ranks != after.ranks
        assert all(after.ranks[name] <= rank for name, rank in before.ranks.items())
    for point in greedy_path(layers):
        for one in uniform:
            assert one.cost > point.cost or one.damage >= point.damage - 1e-12


def check_sums(layers: Sequence[Candidates], setting: Setting) -> None:
    places = [int(np.flatnonzero(at.ranks == setting.ranks[at.layer])[0]) for at in layers]
    pairs = list(zip(layers, places, strict=True))
    assert setting.cost == sum(at.costs[place] for at, place in pairs)
    assert setting.damage == sum(at.damages[place] for at, place in pairs)


def test_a_network_of_many_layers_takes_no_time_and_beats_one_rank() -> None:
    rng = np.random.default_rng(0)
    layers = []
    for at in range(72):
        size = float(rng.uniform(0.1, 10))
        harms = {rank: size * (1 - rank / 384) ** 2 for rank in candidate_ranks(384, count=10)}
        layers.append(candidates(f"layer{at}", harms, cost=lambda rank: rank * (768.0 - rank)))
    path = greedy_path(layers)
    half = next(point for point in path if point.cost <= path[0].cost / 2)
    one = next(point for point in uniform_path(layers) if point.cost <= path[0].cost / 2)
    assert half.damage < 0.9 * one.damage
    assert best_setting(layers, cost=half.cost).damage == pytest.approx(half.damage)


def test_tables_that_make_no_sense_are_refused() -> None:
    with pytest.raises(CalibrationError, match=r"a: damages are numbers .* got \[nan, 0.0\]; look"):
        layer("a", [1, 2], [1, 2], [np.nan, 0])
    with pytest.raises(CalibrationError, match="at least 0, got"):
        layer("a", [1, 2], [1, 2], [-1e-9, 0])
    with pytest.raises(CalibrationError, match="at least 0, got"):
        layer("a", [1, 2], [1, 2], [np.inf, 0])
    with pytest.raises(RankError, match=r"a: candidate ranks rise .* got \[0, 2\]"):
        layer("a", [2, 0], [2, 1], [0, 1])
    for costs in ([1.0, 1.0], [2.0, 1.0], [-1.0, 1.0], [1.0, np.inf]):
        with pytest.raises(NestedError, match=r"a: costs rise with the rank, got .*; leave out"):
            Candidates(
                layer="a", ranks=np.array([1, 2]), costs=np.array(costs), damages=np.zeros(2)
            )
    with pytest.raises(RankError, match=r"got \[2, 2\]"):
        Candidates(layer="a", ranks=np.array([2, 2]), costs=np.ones(2), damages=np.zeros(2))
    for nothing in ([], [A, A]):
        with pytest.raises(NestedError, match="one or more layers, each named once; got"):
            greedy_path(nothing)
