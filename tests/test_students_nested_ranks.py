"""Ranks of a network: set, asked for by threads and tasks at once, prepared, and refused."""

import asyncio
import copy
import itertools
import threading
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from students.nested.base import NestedLayer
from students.nested.errors import NestedError, RankError
from students.nested.layers import NestedEmbedding
from students.nested.ranks import (
    Ranks,
    nested_layers,
    prepare,
    ranks,
    set_rank,
    unprepare,
    using_ranks,
)
from tests.nested_examples import Mlp, Operations, assert_near, conv, drawn, flops, linear

ROWS = drawn(0, 5, 6)
NONE: tuple[int, ...] = ()


def answer(network: nn.Module, rows: Tensor = ROWS) -> Tensor:
    with torch.no_grad():
        found: Tensor = network(rows)
    return found


def expected(wanted: Ranks) -> Tensor:
    """What a network of its own says at these ranks."""
    alone = Mlp()
    set_rank(alone, wanted)
    return answer(alone)


# --- defaults -------------------------------------------------------------------------------------


def test_ranks_are_set_for_all_layers_or_by_name() -> None:
    network = Mlp()
    assert ranks(network) == {"fc1": 6, "fc2": 6}
    set_rank(network, 3)
    assert ranks(network) == {"fc1": 3, "fc2": 3}
    set_rank(network, {"fc2": 5})
    assert ranks(network) == {"fc1": 3, "fc2": 5}
    assert set(nested_layers(network)) == {"fc1", "fc2"}
    assert network.fc2.rank == 5


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (0, r"fc1: the rank must be in 1\.\.6, got 0"),
        (7, r"fc1: the rank must be in 1\.\.6, got 7"),
        ({"fc1": 2, "fc2": 9}, r"fc2: the rank must be in 1\.\.6, got 9"),
        ({"fc1": 2, "fc3": 2}, "no nested layer is called 'fc3'; did you mean 'fc2'"),
        ({"fc1": 2, "head": 2}, "no nested layer is called 'head'; known: fc1, fc2"),
    ],
)
def test_wrong_ranks_and_names_are_refused_and_nothing_is_changed(
    wanted: Ranks, message: str
) -> None:
    network = Mlp()
    set_rank(network, 4)
    with pytest.raises(RankError, match=message):
        set_rank(network, wanted)
    with pytest.raises(RankError, match=message), using_ranks(network, wanted):
        pytest.fail("the block must not run")
    with pytest.raises(RankError, match=message):
        prepare(network, [3, wanted])
    assert ranks(network) == {"fc1": 4, "fc2": 4}
    assert not network.fc1.prepared


def test_a_network_without_nested_layers_is_refused() -> None:
    plain = nn.Sequential(nn.Linear(2, 2))
    asks: list[Callable[[], object]] = [
        partial(ranks, plain),
        partial(set_rank, plain, 1),
        partial(prepare, plain, [1]),
        partial(unprepare, plain),
    ]
    for ask in asks:
        with pytest.raises(RankError, match=r"the network \(Sequential\) has no nested layers"):
            ask()


# --- requests -------------------------------------------------------------------------------------


def test_a_block_runs_at_its_ranks_and_leaves_the_defaults() -> None:
    network = Mlp()
    set_rank(network, 4)
    with using_ranks(network, 2):
        assert ranks(network) == {"fc1": 2, "fc2": 2}
        assert torch.equal(answer(network), expected(2))
        with using_ranks(network, {"fc2": 5}):
            assert ranks(network) == {"fc1": 2, "fc2": 5}
            assert torch.equal(answer(network), expected({"fc1": 2, "fc2": 5}))
        assert torch.equal(answer(network), expected(2))
        assert network.fc1.rank == 4  # the default
    with pytest.raises(KeyError), using_ranks(network, 1):
        raise KeyError
    assert torch.equal(answer(network), expected(4))


def test_two_networks_in_one_block_do_not_meet() -> None:
    one, other = Mlp(), Mlp()
    with using_ranks(one, 1):
        assert torch.equal(answer(other), expected(6))
        with using_ranks(other, 3):
            assert torch.equal(answer(one), expected(1))
            assert torch.equal(answer(other), expected(3))


def test_threads_at_different_ranks_do_not_disturb_one_another() -> None:
    network = Mlp().eval()
    prepare(network, [2, 5])
    together = threading.Barrier(4)
    wrong: list[int] = []

    def serve(rank: int) -> None:
        want = expected(rank)
        for _ in range(25):
            together.wait()
            with using_ranks(network, rank):
                together.wait()  # all four are inside now
                found = answer(network)
            if not torch.allclose(found, want, rtol=1e-4, atol=1e-4):
                wrong.append(rank)

    threads = [threading.Thread(target=serve, args=(rank,)) for rank in (1, 2, 3, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    gaps = [expected(a) - expected(b) for a, b in itertools.combinations((1, 2, 3, 5), 2)]
    assert min(float(gap.abs().max()) for gap in gaps) > 0.1  # the check can fail


def test_tasks_at_different_ranks_do_not_disturb_one_another() -> None:
    network = Mlp()

    async def serve(rank: int) -> list[Tensor]:
        found = []
        with using_ranks(network, rank):
            for _ in range(5):
                await asyncio.sleep(0)
                found.append(answer(network))
            found.append(await asyncio.to_thread(answer, network))
        return found

    async def all_at_once() -> list[list[Tensor]]:
        return await asyncio.gather(*(serve(rank) for rank in (1, 3, 6)))

    for rank, found in zip((1, 3, 6), asyncio.run(all_at_once()), strict=True):
        assert len(found) == 6
        for each in found:
            assert torch.equal(each, expected(rank))


def test_a_new_thread_begins_at_the_defaults() -> None:
    network, seen = Mlp(), []
    with using_ranks(network, 2):
        thread = threading.Thread(target=lambda: seen.append(ranks(network)["fc1"]))
        thread.start()
        thread.join()
    assert seen == [6]


def test_switching_computes_nothing() -> None:
    network = Mlp().eval()
    prepare(network, [2, 6])
    with Operations() as seen:
        set_rank(network, 2)
        set_rank(network, 6)
        with using_ranks(network, 2):
            pass
    assert seen.names == []


# --- prepared forms -------------------------------------------------------------------------------


def used(network: nn.Module, rows: Tensor = ROWS) -> int:
    """FLOPs of an answer."""
    return flops(partial(answer, network, rows))


def learned(network: nn.Module) -> None:
    """Give the parameters gradients."""
    found: Tensor = network(ROWS).sum()
    found.backward()  # type: ignore[no-untyped-call]


def small() -> tuple[nn.Module, NestedLayer]:
    layer = linear(6, 12, 6)
    return nn.Sequential(layer).eval(), layer


def test_a_prepared_rank_runs_in_its_cheapest_form() -> None:
    network = Mlp().eval()
    points: list[Ranks] = [6, 3, {"fc1": 1}]
    forms = prepare(network, points)
    # at 3 of 6 -> 12, 3 (18 - 3) = 45 of 72; at 1, 5 % of 18 are not reached
    assert forms == {
        "fc1": {1: "gauge", 3: "gauge", 6: "dense"},
        "fc2": {3: "gauge", 6: "dense"},
    }
    head = 5 * 2 * 6 * 3
    for point in points:
        set_rank(network, 6)
        set_rank(network, point)
        layers = [(layer, layer.rank) for layer in nested_layers(network).values()]
        cost = sum(layer.cost(rank, layer.cheapest(rank)) for layer, rank in layers)
        assert used(network) == 5 * cost + head
        assert_near(answer(network), expected(ranks(network)), 1e-4)
        with using_ranks(network, 5):  # not prepared
            assert used(network) == 5 * sum(each.cost(5, "factored") for each, _ in layers) + head
    set_rank(network, 6)
    prepare(network, [3])  # and no others
    assert network.fc1.prepared == (3,)
    assert used(network) > 5 * sum(each.cost(6, "dense") for each, _ in layers) + head
    unprepare(network)
    assert network.fc1.prepared == NONE


def test_an_unnamed_layer_is_prepared_at_its_default() -> None:
    network = Mlp().eval()
    set_rank(network, 4)
    assert prepare(network, [{"fc1": 2}]) == {"fc1": {2: "gauge"}, "fc2": {4: "gauge"}}
    assert prepare(network, []) == {"fc1": {}, "fc2": {}}


@pytest.mark.parametrize("kernel", [0, 3])
def test_a_thin_rank_is_kept_as_two_products(kernel: int) -> None:
    layer = conv(16, 16, 8, kernel, padding=1) if kernel else linear(64, 64, 8)
    inputs = drawn(9, 2, 16, 5, 5) if kernel else drawn(9, 5, 64)
    network = nn.Sequential(layer).eval()
    layer.give_biases([5, 3])
    with torch.no_grad():
        assert layer.own_biases is not None
        layer.own_biases.copy_(drawn(3, 2, layer.dims[1]))
    layer.rank = 3
    plain, cost = answer(network, inputs), used(network, inputs)
    with Operations() as before:
        answer(network, inputs)
    assert {"slice", "add"} <= set(before.names)
    assert prepare(network, [3]) == {"0": {3: "factored"}}
    assert layer.prepared == (3,)
    assert_near(answer(network, inputs), plain, 1e-5)
    assert used(network, inputs) == cost
    with Operations() as seen:
        answer(network, inputs)
    assert not {"slice", "add"} & set(seen.names)
    assert layer.up.requires_grad
    assert layer.bias is not None
    assert layer.bias.requires_grad
    with torch.no_grad():
        layer.down[0] += 1.0  # it is of these factors no more
    assert layer.prepared == NONE
    with pytest.raises(AssertionError):
        assert_near(answer(network, inputs), plain, 1e-5)


def test_what_is_still_true_is_not_made_again() -> None:
    network, layer = small()
    prepare(network, [3, 6])
    with Operations() as seen:
        prepare(network, [3, 6])
    assert seen.names == []
    assert layer.prepared == (3, 6)


def test_convolutions_and_tables_run_prepared() -> None:
    layer = conv(3, 16, 12, 3, padding=1)
    images = drawn(9, 2, 3, 7, 8)
    for rank in (4, 11):
        layer.rank = rank
        plain = answer(layer, images)
        layer.eval()
        layer.prepare({rank})
        assert_near(answer(layer, images), plain, 1e-4)
        assert used(layer, images) == 2 * 7 * 8 * layer.cost(rank, layer.cheapest(rank))
    table = NestedEmbedding(11, 4, 3)
    tokens = torch.tensor([[1, 2], [3, 0]])
    plain = answer(table, tokens)
    table.eval()
    table.prepare({3})
    assert used(table, tokens) == 0
    assert_near(answer(table, tokens), plain, 1e-5)


def test_learning_always_uses_the_factors() -> None:
    network, layer = small()
    factored = 5 * layer.cost(6, "factored")
    prepare(network, [6])
    assert flops(lambda: network(ROWS)) == factored  # gradients on
    assert layer.prepared == (6,)
    learned(network)
    assert layer.prepared == NONE  # before any step
    prepare(network, [6])
    with torch.inference_mode():
        assert flops(lambda: network(ROWS)) == 5 * layer.cost(6, "dense")
    network.train()
    assert used(network) == factored
    assert layer.prepared == NONE


OPTIMISERS: dict[str, Callable[[list[nn.Parameter]], torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, foreach=False),
    "foreach": lambda p: torch.optim.AdamW(p, lr=0.1, foreach=True),
    "fused": lambda p: torch.optim.AdamW(p, lr=0.1, fused=True),
}


def a_step(optimiser: str, layer: NestedLayer) -> None:
    learned(layer)
    OPTIMISERS[optimiser](list(layer.parameters())).step()


@torch.no_grad()
def another_bias(layer: NestedLayer) -> None:
    assert layer.bias is not None
    layer.bias.add_(1)


def other_tensors(layer: NestedLayer) -> None:
    state = {n: t * 2 if n != "_extra_state" else t for n, t in layer.state_dict().items()}
    layer.load_state_dict(state, assign=True)


def doubled(layer: NestedLayer) -> None:
    layer.load_state_dict({**layer.state_dict(), "up": layer.up.detach() * 2})


def swapped(layer: NestedLayer) -> None:
    layer.up.data = layer.up.detach() * 2  # as averages are put in place: no version tells


CHANGES: dict[str, Callable[[NestedLayer], object]] = {
    **{name: partial(a_step, name) for name in OPTIMISERS},
    "bias": another_bias,
    "assigned": other_tensors,
    "loaded": doubled,
    "swapped": swapped,
    "dtype": lambda layer: layer.to(torch.float64).to(torch.float32),
    "moved": lambda layer: layer.to("cpu"),
}


@pytest.mark.parametrize("rank", [3, 6])
@pytest.mark.parametrize("change", sorted(CHANGES))
def test_a_stale_product_is_never_used(change: str, rank: int) -> None:
    network, layer = small()
    layer.rank = rank
    prepare(network, [3, 6])
    before = answer(network)
    assert layer.prepared == (3, 6)
    CHANGES[change](layer)
    assert layer.prepared == NONE
    fresh = copy.deepcopy(layer)
    assert torch.equal(answer(network), answer(fresh))
    if change not in ("dtype", "moved"):
        assert bool(((answer(network) - before).abs() > 0.01).any())
    prepare(network, [3, 6])
    assert_near(answer(network), answer(fresh), 1e-4)
    assert used(network) == 5 * layer.cost(rank, layer.cheapest(rank))


def test_a_copy_does_not_inherit_what_is_prepared() -> None:
    network, layer = small()
    prepare(network, [6])
    with torch.no_grad():
        layer.up.mul_(2)  # one version later
    twin = copy.deepcopy(layer)
    assert twin.prepared == NONE
    with torch.no_grad():
        twin.up.mul_(2)  # as many versions as when it was prepared, or not: never the old product
    assert layer.bias is not None
    bias = layer.bias.detach()
    assert_near(answer(twin) - bias, 2 * (answer(layer) - bias), 1e-5)


def test_a_copy_hears_of_its_own_gradients() -> None:
    layer = small()[1]
    layer.prepare({6})
    twin = copy.deepcopy(layer)
    twin.prepare({6})
    a_step("fused", twin)
    assert twin.prepared == NONE
    assert layer.prepared == (6,)


def test_parameters_that_were_frozen_when_prepared_are_watched_too() -> None:
    network, layer = small()
    layer.requires_grad_(False)
    layer.prepare({6})
    assert layer.prepared == (6,)
    layer.requires_grad_(True)
    a_step("fused", layer)
    assert layer.prepared == NONE
    assert used(network) == 5 * layer.cost(6, "factored")


def test_what_is_prepared_while_training_serves_in_evaluation() -> None:
    network, layer = small()
    network.train()
    prepare(network, [6])
    assert used(network) == 5 * layer.cost(6, "factored")
    network.eval()
    assert used(network) == 5 * layer.cost(6, "dense")


def test_parameters_that_hide_their_changes_are_refused() -> None:
    with torch.inference_mode():
        layer = linear(6, 12, 6)
    with pytest.raises(
        NestedError, match=r"made under torch\.inference_mode do not tell when they"
    ):
        layer.prepare({6})
