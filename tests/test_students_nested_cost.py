"""FLOPs by hand, and shares against what torch counts when the network really runs at a rank."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from students.nested.cost import Costs, count_flops, dense_costs
from students.nested.errors import RankError
from students.nested.kinds import matrix_of, nested
from students.nested.materialise import materialise
from students.nested.ranks import nested_layers, prepare, set_rank
from students.nested.surgery import nest
from tests.surgery_examples import FAMILIES, batch_for


class Block(nn.Module):
    """A convolution, attention over its positions, an MLP run twice, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 2, stride=2)
        self.wide = nn.Linear(8, 12)
        self.narrow = nn.Linear(12, 8)
        self.aside = nn.Linear(8, 8)
        self.head = nn.Linear(8, 5)

    def forward(self, images: Tensor) -> Tensor:
        rows = self.patches(images).flatten(2).transpose(1, 2)
        rows = functional.scaled_dot_product_attention(rows, rows, rows)
        for _ in range(2):
            rows = rows + self.narrow(functional.relu(self.wide(rows)))
        found: Tensor = self.head(rows.mean(1))
        return found


IMAGES = torch.zeros(2, 3, 6, 6)  # 2 x 9 positions
CONVOLUTION = 2 * 18 * (3 * 2 * 2) * 8
ATTENTION = 2 * (2 * 2 * 9 * 9 * 8)
MLP = 2 * 2 * (2 * 18 * 8 * 12)
HEAD = 2 * 2 * 8 * 5
DENSE = CONVOLUTION + ATTENTION + MLP + HEAD


def nest_layers(network: nn.Module, *names: str) -> nn.Module:
    for name in names:
        layer = network.get_submodule(name)
        matrix = matrix_of(layer)
        left, values, right = torch.linalg.svd(matrix, full_matrices=False)
        parent, _, last = name.rpartition(".")
        setattr(network.get_submodule(parent), last, nested(layer, left * values, right.clone()))
    return network


def block(*names: str) -> nn.Module:
    torch.manual_seed(0)
    return nest_layers(Block(), *names)


def test_by_hand_attention_and_head_count_and_a_layer_run_twice_counts_twice() -> None:
    assert count_flops(Block(), IMAGES) == DENSE
    costs = dense_costs(block("wide", "patches", "aside", "head"), IMAGES)
    assert costs.total == DENSE
    assert costs.rows == {"patches": 18, "wide": 36, "aside": 0, "head": 2}
    assert costs.dense("wide") == MLP // 2
    assert costs.of_layer("wide", 3, prepared=False) == 2 * 36 * 3 * (8 + 12)
    assert costs.of_layer("wide", 8) == MLP // 2  # at full rank the product is cheapest
    assert costs.share({"wide": 3}, prepared=False) == pytest.approx(
        1 - (MLP // 2 - 2 * 36 * 3 * 20) / DENSE
    )


@pytest.mark.parametrize("names", [("wide",), ("wide", "narrow", "patches", "head")])
def test_dense_costs_do_not_depend_on_the_ranks_while_they_are_counted(
    names: tuple[str, ...],
) -> None:
    for rank in (1, 3, 5):
        network = block(*names)
        set_rank(network, rank)
        assert dense_costs(network, IMAGES).total == DENSE
    prepare(network, [rank])
    assert dense_costs(network, IMAGES).total == DENSE


@pytest.mark.parametrize("rank", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("prepared", [False, True])
def test_shares_are_what_torch_counts_at_that_rank(rank: int, prepared: bool) -> None:
    network = block("wide", "narrow", "patches", "head")
    costs = dense_costs(network, IMAGES)
    mixed = {"wide": rank, "narrow": 6 - rank, "head": rank}
    for wanted in (rank, mixed):
        set_rank(network, wanted)
        everything = {name: layer.rank for name, layer in nested_layers(network).items()}
        if prepared:
            prepare(network, [everything])
        assert costs.flops(everything, prepared=prepared) == count_flops(network, IMAGES)
    assert costs.share(rank, prepared=prepared) == costs.flops(rank, prepared=prepared) / DENSE


@pytest.mark.parametrize("family", ["bert", "llama", "gpt2", "deit", "mobilenet"])
def test_families_cost_what_torch_counts_of_them_dense_and_as_plain_networks(family: str) -> None:
    network, batch = FAMILIES[family](), batch_for(family)
    dense = count_flops(network, batch)
    nest(network, ("mlp", "attention") if family != "mobilenet" else "all")
    costs = dense_costs(network, batch)
    assert costs.total == dense
    full = {name: layer.full_rank for name, layer in nested_layers(network).items()}
    for share in (0.2, 0.7, 1.0):
        wanted = {name: max(1, int(share * rank)) for name, rank in full.items()}
        assert costs.flops(wanted) == count_flops(materialise(network, wanted), batch)
        set_rank(network, wanted)
        assert costs.flops(wanted, prepared=False) == count_flops(network, batch)


def test_embeddings_cost_by_the_token_and_nothing_as_tables() -> None:
    network = nest_layers(nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 2)), "0")
    costs = dense_costs(network, torch.tensor([[1, 2, 3]]))
    assert costs.total == 2 * 3 * 4 * 2
    assert costs.rows == {"0": 3}
    assert costs.flops({"0": 2}) == costs.total
    assert costs.flops({"0": 2}, prepared=False) == costs.total + 2 * 3 * 2 * 4
    set_rank(network, 2)
    assert count_flops(network, torch.tensor([[1, 2, 3]])) == costs.flops(2, prepared=False)


def test_a_fused_encoder_layer_is_counted() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    rows = torch.zeros(1, 5, 8)
    projections, attention, mlp = 2 * 5 * 8 * 32, 2 * 2 * 5 * 5 * 8, 2 * 2 * 5 * 8 * 16
    assert count_flops(layer, rows) == projections + attention + mlp
    assert torch.backends.mha.get_fastpath_enabled()


def test_shares_fall_with_the_rank_and_never_pass_1_when_prepared() -> None:
    costs = dense_costs(block("wide", "narrow"), IMAGES)
    factored = [costs.share(rank, prepared=False) for rank in range(1, 9)]
    assert (np.diff(factored) > 0).all()
    assert factored[-1] > 1.0
    assert max(costs.share(rank) for rank in range(1, 9)) == 1.0


def test_nothing_is_left_behind_not_even_by_a_batch_that_fails() -> None:
    network = block("wide").train()
    with pytest.raises(RuntimeError):
        dense_costs(network, torch.zeros(1, 2, 6, 6))
    dense_costs(network, IMAGES)
    for module in network.modules():
        assert module.training
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
    assert torch.backends.mha.get_fastpath_enabled()
    assert network(IMAGES).requires_grad


def test_what_there_is_not_is_refused() -> None:
    with pytest.raises(RankError, match=r"no nested layers; nest it first"):
        dense_costs(Block(), IMAGES)
    costs: Costs = dense_costs(block("wide"), IMAGES)
    with pytest.raises(RankError, match="no nested layer is called 'wid'; did you mean 'wide'"):
        costs.flops({"wid": 1})
    for rank in (0, 9):
        with pytest.raises(RankError, match=rf"1\.\.8, got {rank}"):
            costs.share(rank)
