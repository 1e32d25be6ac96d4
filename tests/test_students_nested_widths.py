"""Width nesting: the order of hidden units, what a width runs and costs, and what is refused."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from students.nested import BudgetError, CalibrationError, RankError, SurgeryError, count_flops
from students.nested.widths import (
    CutLinear,
    evaluate_widths,
    mlp_blocks,
    nest_widths,
    set_width,
    spare_parameters,
    widest,
    width_within,
)
from students.recipe import Evaluation
from tests import surgery_examples as made


class Mlp(nn.Module):
    """One input, three hidden units, one output."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(1, 3), nn.Linear(3, 1)


class Block(nn.Module):
    """Three hidden units that add 3, 100 and 1 to the output in square."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp = Mlp()
        state = {
            "mlp.fc1.weight": torch.tensor([[1.0], [-2.0], [0.1]]),
            "mlp.fc1.bias": torch.zeros(3),
            "mlp.fc2.weight": torch.tensor([[3.0**0.5, -5.0, 10.0]]),
            "mlp.fc2.bias": torch.tensor([7.0]),
        }
        self.load_state_dict(state)

    def forward(self, rows: Tensor) -> Tensor:
        found: Tensor = self.mlp.fc2(self.mlp.fc1(rows))
        return found


class Normed(Block):
    """Its hidden units are weighed by their place."""

    def forward(self, rows: Tensor) -> Tensor:
        found: Tensor = self.mlp.fc2(self.mlp.fc1(rows) * torch.tensor([1.0, 2.0, 3.0]))
        return found


def images() -> Tensor:
    return torch.randn(5, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def tokens() -> dict[str, Tensor]:
    drawn = torch.randint(0, 40, (3, 7), generator=torch.Generator().manual_seed(1))
    return {"input_ids": drawn, "attention_mask": torch.ones_like(drawn)}


FAMILIES: list[tuple[Callable[[], nn.Module], Callable[[], Any]]] = [
    (made.deit, images),
    (made.bert, tokens),
    (made.llama, tokens),
    (made.neox, tokens),
]


def logits(network: nn.Module, batch: Any) -> Tensor:
    network.eval()
    with torch.no_grad():
        found = network(batch) if isinstance(batch, Tensor) else network(**batch).logits
    return torch.as_tensor(found)


# --- order ----------------------------------------------------------------------------------------


def test_units_are_put_in_the_order_of_what_they_add() -> None:
    one = Block()
    nest_widths(one, [torch.ones(4, 1)])
    # h² w²: 3, 100 and 1, by hand
    assert one.mlp.fc1.weight.flatten().tolist() == pytest.approx([-2.0, 1.0, 0.1])
    assert one.mlp.fc2.weight.flatten().tolist() == pytest.approx([-5.0, 3.0**0.5, 10.0])


@pytest.mark.parametrize(("units", "found"), [(1, 17.0), (2, 17 + 3**0.5), (3, 18 + 3**0.5)])
def test_a_width_runs_the_first_units_alone(units: int, found: float) -> None:
    one = Block()
    nest_widths(one, [torch.ones(4, 1)])
    set_width(one, units)
    assert float(one(torch.ones(1, 1)).detach()) == pytest.approx(found)


def test_units_that_do_not_stand_alone_are_refused() -> None:
    with pytest.raises(SurgeryError, match="do not stand alone"):
        nest_widths(Normed(), [torch.ones(4, 1)])


# --- families -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "batch"), FAMILIES)
def test_full_width_is_the_dense_network(
    family: Callable[[], nn.Module], batch: Callable[[], Any]
) -> None:
    one = family()
    before = logits(one, batch())
    names = nest_widths(one, [batch()])
    assert len(names) == 2
    torch.testing.assert_close(logits(one, batch()), before, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("family", "batch"), FAMILIES)
def test_a_width_is_the_network_whose_matrices_are_cut(
    family: Callable[[], nn.Module], batch: Callable[[], Any]
) -> None:
    one, cut = family(), family()
    for network in (one, cut):
        nest_widths(network, [batch()])
    set_width(one, 10)
    assert not torch.allclose(logits(one, batch()), logits(cut, batch()), rtol=1e-3)
    with torch.no_grad():  # what is beyond the width adds nothing
        for last in mlp_last(cut):
            last.weight[:, 10:] = 0.0
    torch.testing.assert_close(logits(one, batch()), logits(cut, batch()), rtol=1e-4, atol=1e-6)


def mlp_last(network: nn.Module) -> list[Any]:
    return [m for m in network.modules() if type(m).__name__ == "FollowingLinear"]


@pytest.mark.parametrize("units", [1, 7, 24])
def test_flops_and_parameters_are_those_of_the_cut_layers(units: int) -> None:
    """DeiT of 16 tokens and a class token, 16 wide, two blocks of 24 hidden units."""
    one = made.deit()
    nest_widths(one, [images()])
    every, parameters = count_flops(one, images()[:1]), sum(p.numel() for p in one.parameters())
    set_width(one, units)
    assert every - count_flops(one, images()[:1]) == 2 * 17 * 2 * (24 - units) * (16 + 16)
    assert spare_parameters(one, units) == 2 * (24 - units) * (16 + 1 + 16)
    assert parameters == sum(p.numel() for p in one.parameters())


def test_gradients_reach_the_units_that_run_and_no_others() -> None:
    one = made.deit()
    nest_widths(one, [images()])
    set_width(one, 5)
    one(images()).sum().backward()
    for layer in one.modules():
        if isinstance(layer, CutLinear):
            assert layer.weight.grad is not None
            assert layer.weight.grad[:5].abs().sum() > 0
            assert not layer.weight.grad[5:].any()


def test_weights_keep_their_names() -> None:
    one, plain = made.deit(), made.deit()
    nest_widths(one, [images()])
    assert one.state_dict().keys() == plain.state_dict().keys()


# --- budgets --------------------------------------------------------------------------------------


def test_the_most_units_within_a_budget() -> None:
    one = Block()
    nest_widths(one, [torch.ones(2, 1)])

    def share(units: int) -> float:
        return 0.4 + 0.2 * units

    assert [width_within(one, b, share, floor=0.6) for b in (0.6, 0.79, 0.8, 1.0)] == [1, 1, 2, 3]
    with pytest.raises(BudgetError, match="below what widths of MLP blocks can reach"):
        width_within(one, 0.59, share, floor=0.6)


def test_evaluation_is_the_mean_over_widths_and_ends_at_full_width() -> None:
    one = Block()
    nest_widths(one, [torch.ones(2, 1)])

    def evaluate(network: nn.Module) -> Evaluation:
        value = float(functional.relu(network(torch.ones(1, 1))).detach())
        return Evaluation(accuracy=value, loss=2 * value)

    found = evaluate_widths(one, {"narrow": 1, "full": 3}, evaluate)
    assert found.accuracy == pytest.approx((17 + 18 + 3**0.5) / 2)
    assert found.measures["loss@narrow"] == pytest.approx(34)
    assert [layer.units for layer in one.modules() if isinstance(layer, CutLinear)] == [3]


# --- refusals -------------------------------------------------------------------------------------


def test_a_network_without_known_blocks_is_refused() -> None:
    with pytest.raises(SurgeryError, match="no MLP block of this Sequential is known"):
        mlp_blocks(nn.Sequential(nn.Linear(2, 2)))


def test_no_batches_are_refused() -> None:
    with pytest.raises(CalibrationError):
        nest_widths(Block(), [])


@pytest.mark.parametrize("units", [0, 4])
def test_widths_there_are_not_are_refused(units: int) -> None:
    one = Block()
    nest_widths(one, [torch.ones(2, 1)])
    with pytest.raises(RankError, match=r"a width is in 1\.\.3"):
        set_width(one, units)
    with pytest.raises(RankError, match="no nested widths"):
        widest(nn.Linear(1, 1))
