"""Biases of each rank's own: by hand, in every form, in the record, learned alone, refused."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from students import Recipe
from students.nested import (
    NestedError,
    NestedPath,
    OtherSurgeryError,
    PathPoint,
    RankError,
    Surgery,
    fill,
    give_biases,
    materialise,
    nest,
    nest_like,
    nested_layers,
    prepare,
    save_nested,
    set_rank,
    surgery_of,
    using_ranks,
)
from students.nested.base import NestedLayer
from students.nested.layers import NestedEmbedding, NestedLinear
from students.steps import make_optimizer
from tests.nested_examples import assert_near, conv, drawn, linear

Case = tuple[NestedLayer, Tensor]


class Net(nn.Module):
    """Two layers of an MLP block, by names that surgery knows."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.head = nn.Linear(6, 9), nn.Linear(9, 6), nn.Linear(6, 3)

    def forward(self, rows: Tensor) -> Tensor:
        found: Tensor = self.head(self.fc2(torch.relu(self.fc1(rows))))
        return found


def net(seed: int = 0) -> Net:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Net().eval()


def cut(*settings: Any, seed: int = 0) -> Net:
    """Nested, with biases of these ranks that are not 0."""
    made = net(seed)
    nest(made, ["fc1", "fc2"])
    give_biases(made, settings)
    for at, layer in enumerate(nested_layers(made).values()):
        told(layer, seed=at)
    return made


def told(layer: NestedLayer, *, seed: int = 5) -> NestedLayer:
    """Biases as if they had learned."""
    assert layer.own_biases is not None
    with torch.no_grad():
        layer.own_biases.copy_(drawn(seed, *layer.own_biases.shape))
    return layer


def test_by_hand() -> None:
    layer = NestedLinear.from_factors(
        torch.tensor([[1.0, 0.0, 2.0], [0.0, 1.0, 1.0]]),
        torch.tensor([[1.0, 1.0], [0.0, 2.0], [1.0, 0.0]]),
        torch.tensor([10.0, 20.0]),
    )
    layer.give_biases([1, 2])
    assert layer.own_ranks == (2, 1)
    assert layer.own_biases is not None
    with torch.no_grad():
        layer.own_biases.copy_(torch.tensor([[0.5, 0.25], [3.0, 4.0]]))
    rows = torch.tensor([[1.0, 2.0]])  # A x = (3, 4, 1)
    for rank, expected in ((1, [[16.0, 24.0]]), (2, [[13.5, 24.25]]), (3, [[15.5, 25.25]])):
        layer.rank = rank
        torch.testing.assert_close(layer(rows), torch.tensor(expected))


def test_a_rank_takes_the_bias_of_the_next_higher_one_that_has_one() -> None:
    layer = told(_given(linear(8, 7, 7), (6, 3)))
    own = layer.own_biases
    assert own is not None
    assert layer.bias is not None
    for rank in range(1, 8):
        expected = own[1] if rank <= 3 else own[0]
        torch.testing.assert_close(layer.bias_at(rank), layer.bias + expected)


def _given(layer: NestedLayer, ranks: tuple[int, ...]) -> NestedLayer:
    layer.give_biases(ranks)
    return layer


CASES: dict[str, Callable[[], Case]] = {
    "wide": lambda: (linear(5, 9, 5), drawn(7, 40, 5)),
    "narrow": lambda: (linear(9, 5, 5), drawn(7, 40, 9)),
    "without a bias": lambda: (_unbiased(), drawn(7, 40, 5)),
    "convolution": lambda: (conv(3, 6, 6, 3, padding=1), drawn(7, 4, 3, 8, 8)),
}


def _unbiased() -> NestedLinear:
    return NestedLinear.from_factors(drawn(0, 9, 5), drawn(1, 5, 5), None)


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_every_form_has_the_bias_of_its_rank(name: str) -> None:
    layer, inputs = CASES[name]()
    layer.eval()
    bare = copy.deepcopy(layer)
    told(_given(layer, (layer.full_rank, 3, 1)))
    own, top = layer.own_biases, layer.full_rank
    assert own is not None
    shape = (-1, 1, 1) if name == "convolution" else (-1,)
    for rank, place in ((top, 0), (4, 0), (3, 1), (2, 1), (1, 2)):
        layer.rank = bare.rank = rank
        expected = bare(inputs) + own[place].view(shape)
        assert_near(layer(inputs), expected, 1e-5)
        assert_near(layer(inputs[:1]), expected[:1], 1e-5)  # one row meets the factors
        for form in ("dense", "factored", *(("gauge",) if rank < min(layer.dims) else ())):
            assert_near(layer.plain(rank, form)(inputs), expected, 1e-4)
        layer.prepare({rank})
        assert_near(layer(inputs), expected, 1e-4)
        layer.unprepare()


def test_a_step_teaches_the_bias_of_its_rank_and_the_shared_one() -> None:
    layer = _given(linear(8, 7, 7), (7, 4, 2))
    layer.rank = 3
    layer(drawn(3, 11, 8)).sum().backward()
    assert layer.own_biases is not None
    assert layer.own_biases.grad is not None
    assert layer.bias is not None
    torch.testing.assert_close(
        layer.own_biases.grad, torch.tensor([0.0, 11.0, 0.0])[:, None].expand(3, 7)
    )
    torch.testing.assert_close(layer.bias.grad, torch.full((7,), 11.0))


def test_what_is_prepared_follows_a_bias_that_learns() -> None:
    layer, rows = told(_given(linear(9, 9, 9), (9, 8))).eval(), drawn(2, 5, 9)
    layer.rank = 8
    layer.prepare({8})
    with torch.no_grad():
        before = layer(rows)
        assert layer.own_biases is not None
        layer.own_biases[1] += 1.0
        assert_near(layer(rows), before + 1.0, 1e-5)


@torch.no_grad()
def test_a_network_is_the_same_until_they_learn_and_has_them_at_the_ranks_of_its_settings() -> None:
    dense, made, rows = net(), net(), drawn(1, 30, 6)
    nest(made, ["fc1", "fc2"])
    count = give_biases(made, [6, {"fc1": 4, "fc2": 6}, {"fc1": 2, "fc2": 3}])
    layers = nested_layers(made)
    assert {name: layer.own_ranks for name, layer in layers.items()} == {
        "fc1": (6, 4, 2),
        "fc2": (6, 3),
    }
    assert count == 9 * 3 + 6 * 2
    assert_near(made(rows), dense(rows), 1e-5)
    assert surgery_of(made).layers[0].own == (6, 4, 2)
    assert f"ranks that are taught have biases of their own: {count} numbers" in (
        surgery_of(made).as_text()
    )


@torch.no_grad()
def test_requests_at_different_ranks_have_different_biases() -> None:
    made, rows = cut(6, 4, 2), drawn(1, 30, 6)
    whole = made(rows)
    with using_ranks(made, 2):
        low = made(rows)
    set_rank(made, 2)
    assert torch.equal(made(rows), low)
    assert not torch.allclose(whole, low)
    prepare(made, [2, 6])
    assert_near(made(rows), low, 1e-4)
    assert_near(materialise(made, 2)(rows), low, 1e-4)
    set_rank(made, 6)
    assert_near(made(rows), whole, 1e-4)


@torch.no_grad()
def test_a_file_brings_them_back_with_their_ranks(tmp_path: Path) -> None:
    made, fresh, rows = cut(6, 3, seed=1), net(2), drawn(1, 30, 6)
    points = tuple(PathPoint(share=s, ranks={"fc1": r, "fc2": r}) for s, r in ((1.0, 6), (0.5, 3)))
    path = NestedPath(points=points, measured_at="rows of 6")
    save_nested(tmp_path / "nested.safetensors", made, path=path, card={})
    fill(fresh, tmp_path)
    for rank in (6, 4, 3, 2):
        for one in (made, fresh):
            set_rank(one, rank)
        assert torch.equal(fresh(rows), made(rows))
    assert surgery_of(fresh) == surgery_of(made)
    assert Surgery.from_json(surgery_of(made).to_json()) == surgery_of(made)


def test_states_with_other_biases_are_refused() -> None:
    with_own, without = cut(6, 3), net()
    nest(without, ["fc1", "fc2"])
    for taker, giver, said in (
        (without, with_own, r"ranks \[6, 3\] of fc1 have biases of their own there, and \[\] here"),
        (with_own, without, r"ranks \[\] of fc1 have biases of their own there, and \[6, 3\] here"),
        (with_own, cut(6, 4), r"ranks \[6, 4\] of fc1 have biases of their own there"),
    ):
        with pytest.raises(OtherSurgeryError, match=said):
            taker.load_state_dict(giver.state_dict())
    again = net()
    nest_like(again, surgery_of(with_own))
    again.load_state_dict(with_own.state_dict())
    assert all("own" not in each for each in surgery_of(without).to_json()["layers"])


def test_a_layer_alone_takes_no_state_with_biases_of_other_ranks() -> None:
    layer, other, older = (_given(linear(8, 7, 7), ranks) for ranks in ((6, 3), (6, 4), (6, 3)))
    with pytest.raises(RankError, match=r"ranks' own for \[6, 4\], and the layer for \[6, 3\]"):
        layer.load_state_dict(other.state_dict())
    older.rank = 5
    layer.load_state_dict(older.state_dict())
    assert layer.rank == 5


@pytest.mark.parametrize("own", [["a"], "ab", [99], [3, 6], [6, 6, 3], [0], [True]])
def test_a_record_of_ranks_that_cannot_be_is_refused(own: Any) -> None:
    told_of = surgery_of(cut(6, 3)).to_json()
    told_of["layers"][0]["own"] = own
    with pytest.raises(NestedError, match="this is no record of a surgery"):
        Surgery.from_json(told_of)


def test_the_record_asks_the_layers_whoever_gave_the_biases(tmp_path: Path) -> None:
    outer = nn.ModuleDict({"body": net()})
    nest(outer, ["body.fc1", "body.fc2"])
    give_biases(outer.get_submodule("body"), [6, 3])  # a part of what was nested
    wrapped = nn.Sequential(cut(6))
    give_biases(wrapped, [5, 2])  # more than what was nested
    for network, own in ((outer, (6, 3)), (wrapped, (5, 2))):
        assert {each.own for each in surgery_of(network).layers} == {own}
    path = NestedPath(points=(PathPoint(share=1.0, ranks={"fc1": 6, "fc2": 6}),), measured_at="")
    save_nested(tmp_path / "nested.safetensors", wrapped[0], path=path, card={})
    fresh = fill(net(), tmp_path)
    assert surgery_of(fresh) == surgery_of(wrapped)


def test_the_record_outlives_its_layers() -> None:
    made = cut(6, 3)
    made.fc2 = nn.Linear(9, 6)
    assert [each.own for each in surgery_of(made).layers] == [(6, 3), ()]
    made.fc1 = nn.Linear(6, 9)
    assert [each.name for each in surgery_of(made).layers] == ["fc1", "fc2"]


def test_a_state_that_names_no_ranks_is_held_against_their_number() -> None:
    taker, state = net(), cut(6, 3).state_dict()
    nest(taker, ["fc1", "fc2"])
    bare = {name: each for name, each in state.items() if "_extra_state" not in name}
    with pytest.raises(OtherSurgeryError, match=r"ranks \[0, 0\] of fc1 have biases of their own"):
        taker.load_state_dict(bare, strict=False)
    alone = {name: each for name, each in state.items() if name.startswith("head")}
    taker.load_state_dict(alone, strict=False)


def test_a_layer_pickled_before_there_were_any_runs() -> None:
    layer, rows = linear(8, 7, 7), drawn(1, 3, 8)
    before = layer(rows)
    del layer._parameters["own_biases"]
    assert torch.equal(layer(rows), before)
    assert layer.state_dict().keys() == {"up", "down", "bias", "_extra_state"}


def test_weight_decay_draws_them_to_the_shared_bias() -> None:
    made = cut(6, 3)
    recipe = Recipe(epochs=1, batch_size=8, learning_rate=1e-3, weight_decay=0.1)
    decayed, kept = make_optimizer(made, recipe, torch.device("cpu")).param_groups
    own = [layer.own_biases for layer in nested_layers(made).values()]
    assert all(any(one is each for each in decayed["params"]) for one in own)
    assert {each.ndim for each in kept["params"]} == {1}


def test_frozen_layers_get_frozen_biases_and_other_ranks_replace_those_there_are() -> None:
    made = net()
    made.fc1.requires_grad_(False)
    nest(made, ["fc1", "fc2"])
    give_biases(made, [6, 2])
    layers = nested_layers(made)
    for name, learns in (("fc1", False), ("fc2", True)):
        own = layers[name].own_biases
        assert own is not None
        assert own.requires_grad is learns
    give_biases(made, [5])
    assert surgery_of(made).layers[1].own == (5,)
    assert made.state_dict()["fc2.own_biases"].shape == (1, 6)


def test_layers_that_no_surgery_made_have_them_too() -> None:
    made = nn.Sequential(linear(6, 9, 6), linear(9, 5, 5))
    assert give_biases(made, [5, {"0": 2, "1": 5}]) == 9 * 2 + 5
    assert [layer.own_ranks for layer in nested_layers(made).values()] == [(5, 2), (5,)]


def test_tables_and_layers_that_torch_reads_itself_have_none() -> None:
    body = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True)
    network = nn.ModuleDict({"embed": nn.Embedding(9, 8), "body": body, "out": nn.Linear(8, 3)})
    nest(network, ["embed", "body.linear1", "out"])
    give_biases(network, [2])
    found = {name: layer.own_ranks for name, layer in nested_layers(network).items()}
    assert found == {"embed": (), "body.linear1": (), "out": (2,)}
    with pytest.raises(NestedError, match="an embedding has no bias"):
        NestedEmbedding(9, 8, 4).give_biases([2])
    alone = nn.ModuleDict({"embed": nn.Embedding(9, 8)})
    nest(alone, ["embed"])
    with pytest.raises(NestedError, match="no nested layer of this network can have biases"):
        give_biases(alone, [2])


def test_ranks_that_are_not_there_are_refused_and_change_nothing() -> None:
    layer = linear(8, 7, 7)
    for ranks, said in (((0,), r"in 1\.\.7, got 0"), ((8, 2), r"in 1\.\.7, got 8"), ((), "none")):
        with pytest.raises(RankError, match=said):
            layer.give_biases(ranks)
    assert layer.own_biases is None
    made = net()
    nest(made, ["fc1", "fc2"])
    with pytest.raises(RankError):
        give_biases(made, [6, 60])
    assert not nested_layers(made)["fc1"].own_ranks
