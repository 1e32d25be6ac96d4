"""Budgets follow the path: which point, on which network, and what is refused."""

import copy
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from students.nested.budgets import (
    NestedPath,
    PathPoint,
    attach,
    budget_of,
    find_path,
    nested_path,
    set_budget,
    using_budget,
)
from students.nested.cost import count_flops, dense_costs
from students.nested.errors import BudgetError, CalibrationError, NestedError, OtherSurgeryError
from students.nested.layers import NestedLinear
from students.nested.ranks import nested_layers, prepare, ranks, set_rank

HEAD = 2 * 8 * 3


def network(*, seed: int = 0) -> nn.Sequential:
    """Two nested layers, 8 -> 12 -> 8, and a plain head."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            NestedLinear(8, 12, 8), nn.ReLU(), NestedLinear(12, 8, 8), nn.Linear(8, 3)
        ).eval()


def cost_in(model: nn.Module) -> Callable[[str, int], float]:
    layers = nested_layers(model)
    return lambda name, rank: layers[name].cost(rank, layers[name].cheapest(rank))


def share(setting: Mapping[str, int]) -> float:
    """Gauge form throughout: 2 r (20 - r) a layer, of 2 · 96 + 2 · 96 + 48 dense."""
    return (sum(2 * r * (20 - r) for r in setting.values()) + HEAD) / (2 * 192 + HEAD)


DAMAGES = {"0": {1: 4.0, 2: 1.0, 4: 0.25, 8: 0.0}, "2": {1: 9.0, 2: 8.0, 4: 6.0}}


def found_path(model: nn.Module) -> NestedPath:
    return find_path(model, DAMAGES, cost=cost_in(model), share=share, measured_at="1 row")


def test_the_path_of_a_network_is_the_greedy_one_through_its_damages() -> None:
    path = found_path(network())
    assert [tuple(point.ranks.values()) for point in path.points] == [
        (8, 8), (4, 8), (2, 8), (2, 1), (1, 1)
    ]  # fmt: skip
    assert [point.share for point in path.points] == pytest.approx(
        [1.0, (128 + 192 + 48) / 432, (72 + 240) / 432, (72 + 38 + 48) / 432, (38 + 38 + 48) / 432]
    )
    assert path.floor == path.points[-1].share
    # without damages a layer keeps its full rank
    alone = find_path(
        network(), {"0": DAMAGES["0"]}, cost=cost_in(network()), share=share, measured_at=""
    )
    assert {point.ranks["2"] for point in alone.points} == {8}
    with pytest.raises(CalibrationError, match="0: damages are numbers"):
        find_path(
            network(),
            {"0": {1: float("nan")}},
            cost=cost_in(network()),
            share=share,
            measured_at="",
        )


def test_shares_of_counted_costs_are_those_of_the_network_that_runs() -> None:
    model = network()
    costs = dense_costs(model, torch.zeros(5, 8))
    path = find_path(model, DAMAGES, cost=costs.of_layer, share=costs.share, measured_at="5 rows")
    assert path.points == found_path(model).points
    attach(model, path)
    prepare(model, [point.ranks for point in path.points])
    for point in path.points:
        with using_budget(model, point.share):
            assert count_flops(model, torch.zeros(5, 8)) == pytest.approx(point.share * 5 * 432)


def test_a_budget_takes_the_largest_point_that_costs_no_more() -> None:
    model = network()
    path = found_path(model)
    attach(model, path)
    for budget, expected in (
        (1.0, (8, 8)),
        (0.99, (4, 8)),
        (0.8, (2, 8)),
        (0.7, (2, 1)),
        (0.3, (1, 1)),
    ):
        set_budget(model, budget)
        assert tuple(ranks(model).values()) == expected
        assert budget_of(model) <= budget
    for point in path.points:  # its own share is enough
        set_budget(model, min(point.share, 1.0))
        assert ranks(model) == point.ranks
        assert budget_of(model) == point.share
    assert path.at(0.4) is path.at(0.7)


@given(budget=st.floats(0.0, 1.0, exclude_min=True))
def test_a_smaller_budget_never_has_a_higher_rank(budget: float) -> None:
    path = NestedPath(points=POINTS, measured_at="1 row")
    if budget < path.floor:
        with pytest.raises(BudgetError, match="below what this network can reach"):
            path.at(budget)
        return
    point = path.at(budget)
    assert point.share <= budget + 1e-9
    larger = [other for other in POINTS if other.share > point.share]
    assert not larger or larger[-1].share > budget
    assert all(rank <= other.ranks[name] for other in larger for name, rank in point.ranks.items())


POINTS = tuple(
    PathPoint(share=share, ranks={"a": a, "b": b})
    for share, a, b in ((1.0, 8, 8), (0.75, 8, 4), (0.7, 6, 4), (0.3331234, 1, 4))
)


def test_budgets_there_are_not_are_refused_with_what_there_is() -> None:
    path = NestedPath(points=POINTS, measured_at="128 tokens")
    for wrong in (0.0, -0.5, 1.01, float("nan")):
        with pytest.raises(BudgetError, match=r"a share of dense FLOPs, in \(0, 1\], got"):
            path.at(wrong)
    said = (
        "0.2 is below what this network can reach at 128 tokens: ask for at least 0.3332, or nest"
    )
    with pytest.raises(BudgetError, match=said):
        path.at(0.2)
    assert path.at(0.3332) is path.points[-1]
    model = network()
    for call in (lambda: set_budget(model, 0.5), lambda: budget_of(model)):
        with pytest.raises(BudgetError, match="the network follows no nested path; attach one"):
            call()
    attach(model, found_path(model))
    set_rank(model, 5)
    with pytest.raises(BudgetError, match="ranks that are no point of its path"):
        budget_of(model)


def test_a_block_at_a_budget_changes_this_thread_alone() -> None:
    model = network()
    attach(model, found_path(model))
    inputs = torch.randn(5, 8, generator=torch.Generator().manual_seed(1))
    expected = {}
    for budget in (1.0, 0.7, 0.3):
        set_budget(model, budget)
        expected[budget] = model(inputs).detach()
    set_budget(model, 0.7)
    found: dict[float, tuple[float, Tensor]] = {}
    barrier = threading.Barrier(2)

    def request(budget: float) -> None:
        with using_budget(model, budget), torch.no_grad():
            barrier.wait()
            found[budget] = (budget_of(model), model(inputs))
            barrier.wait()

    threads = [threading.Thread(target=request, args=(budget,)) for budget in (1.0, 0.3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[budget][0] for budget in (1.0, 0.3)] == [1.0, found_path(model).floor]
    for budget in (1.0, 0.3):
        torch.testing.assert_close(found[budget][1], expected[budget], rtol=0, atol=0)
    torch.testing.assert_close(model(inputs), expected[0.7], rtol=0, atol=0)
    with pytest.raises(BudgetError), using_budget(model, 0.1):
        pass


def test_wrappers_and_copies_follow_the_path_too() -> None:
    model = network()
    attach(model, found_path(model))
    wrapped = nn.DataParallel(model)  # names begin with "module." here
    set_budget(wrapped, 0.8)
    assert tuple(ranks(model).values()) == (2, 8)
    assert budget_of(wrapped) == budget_of(model)
    twin = copy.deepcopy(model)
    set_budget(twin, 0.3)
    assert tuple(ranks(twin).values()) == (1, 1)
    assert tuple(ranks(model).values()) == (2, 8)
    assert not any("path" in name for name in model.state_dict())


def test_prepared_budgets_give_the_same_answers() -> None:
    model = network()
    path = found_path(model)
    attach(model, path)
    inputs = torch.randn(5, 8, generator=torch.Generator().manual_seed(1))
    before = []
    for point in path.points:
        with using_budget(model, point.share), torch.no_grad():
            before.append(model(inputs))
    prepare(model, [point.ranks for point in path.points])
    for point, expected in zip(path.points, before, strict=True):
        with using_budget(model, point.share), torch.no_grad():
            torch.testing.assert_close(model(inputs), expected, rtol=1e-4, atol=1e-4)


def test_a_path_goes_through_json_and_back() -> None:
    path = found_path(network())
    again = NestedPath.from_json(json.loads(json.dumps(path.to_json())))
    assert again == path
    for broken in ({}, {**path.to_json(), "shares": [1.0]}, {**path.to_json(), "ranks": None}):
        with pytest.raises(NestedError, match="this is no nested path: "):
            NestedPath.from_json(broken)


def test_a_thinner_path_keeps_both_ends_and_even_steps() -> None:
    shares = np.linspace(1, 0.1, 91)
    points = tuple(
        PathPoint(share=float(share), ranks={"a": 91 - at}) for at, share in enumerate(shares)
    )
    path = NestedPath(points=points, measured_at="1 row")
    thin = path.thinned(4)
    assert [point.share for point in thin.points] == pytest.approx([1.0, 0.7, 0.4, 0.1])
    assert set(map(id, thin.points)) <= set(map(id, points))
    assert path.thinned(200) == path
    # points that are far apart are taken once
    assert NestedPath(points=POINTS, measured_at="").thinned(12).points == POINTS
    assert NestedPath(points=POINTS[:1], measured_at="").thinned(2).points == POINTS[:1]
    with pytest.raises(NestedError, match="at least 2 points, got 1"):
        path.thinned(1)


def test_settings_that_save_nothing_are_no_points() -> None:
    shares = {8: 1.0, 6: 1.0, 4: 0.5}
    path = nested_path(
        [{"a": 8}, {"a": 6}, {"a": 4}], share=lambda at: shares[at["a"]], measured_at="1 row"
    )
    assert [point.ranks for point in path.points] == [{"a": 8}, {"a": 4}]


class Wrong(NamedTuple):
    shares: Sequence[float]
    ranks: Sequence[Mapping[str, int]]
    said: str


@pytest.mark.parametrize(
    "wrong",
    [
        Wrong([], [], "at least one point"),
        Wrong([1.2], [{"a": 2}], r"in \(0, 1\], got 1.2; count each layer in its cheapest form"),
        Wrong([0.0], [{"a": 2}], r"in \(0, 1\], got 0.0"),
        Wrong([0.5, 0.5], [{"a": 2}, {"a": 1}], "fall, got 0.5 and then 0.5"),
        Wrong([1.0, 0.5], [{"a": 2}, {"b": 1}], "name the same layers"),
        Wrong([1.0, 0.5], [{"a": 2, "b": 2}, {"a": 1, "b": 3}], "b goes from 2 to 3"),
    ],
)
def test_points_that_are_not_nested_are_refused(wrong: Wrong) -> None:
    with pytest.raises(NestedError, match=wrong.said):
        NestedPath(
            points=tuple(
                PathPoint(share=share, ranks=ranks)
                for share, ranks in zip(wrong.shares, wrong.ranks, strict=True)
            ),
            measured_at="1 row",
        )


@pytest.mark.parametrize(
    ("first", "said"),
    [
        ({"0": 8, "2": 6}, "it begins at rank 6 of 2, whose full rank is 8"),
        ({"0": 8, "2": 9}, "it begins at rank 9 of 2, whose full rank is 8"),
        ({"0": 8}, "only the network has a nested layer '2'"),
        ({"0": 8, "2": 8, "4": 8}, "only the path has a nested layer '4'"),
    ],
)
def test_a_path_of_another_surgery_is_refused(first: dict[str, int], said: str) -> None:
    path = NestedPath(points=(PathPoint(share=1.0, ranks=first),), measured_at="1 row")
    model: Any = network()
    with pytest.raises(OtherSurgeryError, match=said):
        attach(model, path)
    assert not hasattr(model, "nested_path")
