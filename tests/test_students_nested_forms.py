"""Forms of a matrix: costs by hand, the gauge's promises, and that it is what it stands for."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from students.nested.base import NestedLayer
from students.nested.forms import (
    Form,
    Side,
    break_even,
    cheapest_form,
    form_cost,
    gauge,
)
from tests.nested_examples import assert_near, conv, drawn, flops, linear

SIDES: tuple[Side, ...] = ("rows", "columns")


def decaying(
    d_in: int, d_out: int, rank: int, *, decades: float, seed: int
) -> tuple[Tensor, Tensor]:
    """Factors U S^½ and S^½ Vᵀ whose singular values fall by so many powers of ten."""
    left, right = (
        torch.linalg.qr(drawn(seed + i, size, rank).double())[0]
        for i, size in ((0, d_out), (1, d_in))
    )
    root = 10.0 ** (-decades / 2 * torch.linspace(0, 1, rank, dtype=torch.float64))
    return (left * root).float(), (right * root).T.float()


# --- costs ----------------------------------------------------------------------------------------


def test_costs_by_hand() -> None:
    # BERT's first MLP layer: 768 -> 3072
    assert break_even(768, 3072) == pytest.approx(614.4)
    assert form_cost(768, 3072, 100, "dense") == 2 * 768 * 3072
    assert form_cost(768, 3072, 100, "factored") == 2 * 100 * 3840
    assert form_cost(768, 3072, 100, "gauge") == 2 * 100 * 3740
    assert form_cost(768, 3072, 768, "gauge") == form_cost(768, 3072, 768, "dense")


@pytest.mark.parametrize(
    ("d_in", "d_out", "rank", "form"),
    [
        (768, 3072, 191, "factored"),  # 191 < 5 % of 3840
        (768, 3072, 192, "gauge"),
        (768, 3072, 650, "gauge"),  # (650 * 3190) / (768 * 3072) = 0.879
        (768, 3072, 700, "dense"),
        (768, 3072, 768, "dense"),
        (384, 384, 38, "factored"),
        (384, 384, 39, "gauge"),
        (384, 384, 300, "dense"),
        (5, 1, 1, "dense"),
        (9, 9, 9, "dense"),
    ],
)
def test_the_cheapest_form_by_hand(d_in: int, d_out: int, rank: int, form: Form) -> None:
    assert cheapest_form(d_in, d_out, rank) == form
    assert cheapest_form(d_out, d_in, rank) == form


sizes = st.integers(1, 300)


@given(d_in=sizes, d_out=sizes, data=st.data())
def test_a_gauge_is_never_dearer_and_the_chosen_form_near_the_cheapest(
    d_in: int, d_out: int, data: st.DataObject
) -> None:
    rank = data.draw(st.integers(1, min(d_in, d_out)))
    factored, dense, spared = (
        form_cost(d_in, d_out, rank, form) for form in ("factored", "dense", "gauge")
    )
    assert factored - spared == 2 * rank**2
    assert dense - spared == 2 * (d_in - rank) * (d_out - rank)
    assert (factored > dense) == (rank > break_even(d_in, d_out))
    chosen = form_cost(d_in, d_out, rank, cheapest_form(d_in, d_out, rank))
    assert chosen <= min(factored, dense)
    without = cheapest_form(d_in, d_out, rank, gauges=False)
    assert form_cost(d_in, d_out, rank, without) == min(factored, dense)
    assert chosen <= spared / 0.9


# --- the gauge ------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", SIDES)
def test_a_gauge_by_hand(side: Side) -> None:
    # W = (1, 4, 2)ᵀ (3, 5): the largest row is kept, the others are parts of it
    up, down = torch.tensor([[1.0], [4.0], [2.0]]), torch.tensor([[3.0, 5.0]])
    if side == "columns":
        up, down = down.T, up.T
    found = gauge(up, down, side)
    assert found.kept.tolist() == [1]
    assert_near(found.wide, np.array([[12.0, 20.0]]), 1e-6)
    shares = dict(zip(found.rest.tolist(), found.mix.flatten().tolist(), strict=True))
    assert shares == pytest.approx({0: 0.25, 2: 0.5})


@pytest.mark.parametrize("side", SIDES)
@given(
    d_in=st.integers(2, 24),
    d_out=st.integers(2, 24),
    decades=st.sampled_from([0.0, 3.0, 8.0]),
    seed=st.integers(0, 99),
    data=st.data(),
)
def test_a_gauge_is_the_matrix_whatever_its_spectrum(
    side: Side, d_in: int, d_out: int, decades: float, seed: int, data: st.DataObject
) -> None:
    rank = data.draw(st.integers(1, min(d_in, d_out)))
    up, down = decaying(d_in, d_out, rank, decades=decades, seed=seed)
    found = gauge(up, down, side)
    exact = (up.double() @ down.double()).numpy()
    if side == "columns":
        exact = exact.T
    assert sorted([*found.kept.tolist(), *found.rest.tolist()]) == list(range(len(exact)))
    assert_near(found.wide, exact[found.kept.numpy()], 1e-6)
    if len(found.rest):
        size = np.abs(exact).max()
        off = np.abs((found.mix @ found.wide).numpy() - exact[found.rest.numpy()]).max()
        assert off <= 1e-4 * size


@pytest.mark.parametrize("side", SIDES)
def test_rows_that_repeat_are_not_chosen_twice(side: Side) -> None:
    # the leading block is singular: a gauge of the first rows does not exist
    up, down = decaying(9, 9, 3, decades=2, seed=0)
    up[:3], down[:, :3] = up[0], down[:, :1]
    found = gauge(up, down, side)
    exact = up @ down if side == "rows" else (up @ down).T
    assert int(torch.linalg.matrix_rank(exact[found.kept])) == 3
    assert_near(found.mix @ found.wide, exact[found.rest], 1e-5)
    assert float(found.mix.abs().max()) < 3


def test_chosen_rows_lose_no_digits_where_the_leading_ones_do() -> None:
    up, down = decaying(384, 256, 200, decades=6, seed=5)
    inputs = drawn(1, 32, 384)
    exact = inputs.double() @ (up.double() @ down.double()).T
    found = gauge(up, down, "rows")
    some = inputs @ found.wide.T
    chosen = torch.empty(32, 256)
    chosen[:, found.kept], chosen[:, found.rest] = some, some @ found.mix.T
    mix = torch.linalg.solve(up[:200].double().T, up[200:].double().T).T.float()
    some = inputs @ (up[:200].double() @ down.double()).float().T
    leading = torch.cat([some, some @ mix.T], dim=1)
    errors = [
        float((y.double() - exact).abs().max() / exact.abs().max()) for y in (chosen, leading)
    ]
    assert errors[0] < 3e-6
    assert errors[1] > 10 * errors[0]


def test_a_factor_of_less_rank_than_columns_is_no_trouble() -> None:
    up, down = decaying(12, 10, 4, decades=1, seed=3)
    up[:, 2] = 0
    found = gauge(up, down, "rows")
    assert found.mix.isfinite().all()
    assert_near(found.mix @ found.wide, (up @ down)[found.rest], 1e-5)


def test_at_break_even_one_product_is_simpler() -> None:
    assert form_cost(8, 8, 4, "factored") == form_cost(8, 8, 4, "dense")
    assert cheapest_form(8, 8, 4, gauges=False) == "dense"
    assert cheapest_form(8, 8, 3, gauges=False) == "factored"


@pytest.mark.parametrize("form", ["dense", "factored", "gauge"])
def test_a_form_made_under_autocast_is_not_rounded(form: Form) -> None:
    layer = linear(20, 12, 10)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        made = layer.plain(4, form)
        weight = layer.weight_at(4)
    assert torch.equal(weight, layer.weight_at(4))
    for name, parameter in layer.plain(4, form).named_parameters():
        assert torch.equal(made.get_parameter(name), parameter)


# --- modules --------------------------------------------------------------------------------------

IMAGES = drawn(9, 2, 3, 7, 8)
LAYERS: dict[str, tuple[NestedLayer, Tensor, int]] = {  # and how many rows of inputs it reads
    "wide": (linear(12, 20, 10), drawn(9, 2, 3, 12), 6),
    "square": (linear(12, 12, 10), drawn(9, 4, 12), 4),
    "narrow": (linear(20, 12, 10), drawn(9, 4, 20), 4),
    "vector": (linear(20, 12, 10), drawn(9, 20), 1),
    "1x1": (conv(20, 16, 12, 1, stride=2), drawn(9, 2, 20, 7, 8), 2 * 4 * 4),
    "3x3": (conv(3, 16, 12, 3, padding=1), IMAGES, 2 * 7 * 8),
    "one image": (conv(3, 16, 12, 3, padding=1), IMAGES[0], 7 * 8),
}


@pytest.mark.parametrize("name", sorted(LAYERS))
@pytest.mark.parametrize("form", ["dense", "factored", "gauge"])
def test_every_form_gives_the_layers_outputs_at_its_cost(name: str, form: Form) -> None:
    layer, inputs, rows = LAYERS[name]
    for rank in (1, 4, 9):
        layer.rank = rank
        plain = layer.plain(rank, form)
        assert_near(plain(inputs), layer(inputs), 1e-4)
        assert flops(partial(plain, inputs)) == rows * layer.cost(rank, form)
        assert not any(isinstance(module, NestedLayer) for module in plain.modules())


@pytest.mark.parametrize("name", ["wide", "narrow", "3x3"])
def test_a_gauge_passes_gradients_to_its_inputs(name: str) -> None:
    layer, inputs, _ = LAYERS[name]
    layer.rank = 4
    found, expected = (inputs.clone().requires_grad_() for _ in range(2))
    layer.plain(4, "gauge")(found).square().sum().backward()
    layer(expected).square().sum().backward()
    assert found.grad is not None
    assert expected.grad is not None
    assert_near(found.grad, expected.grad, 1e-4)


def test_without_a_bias_there_is_none() -> None:
    layer = linear(20, 12, 10)
    assert layer.bias is not None
    with torch.no_grad():
        layer.bias.zero_()
    bare = type(layer).from_factors(layer.up.detach(), layer.down.detach(), None)
    rows = drawn(9, 4, 20)
    for form in ("dense", "factored", "gauge"):
        plain = bare.plain(10, form)
        assert not any("bias" in name for name, _ in plain.named_parameters())
        assert_near(plain(rows), layer(rows), 1e-5)


def test_a_plain_layer_shares_nothing_with_the_nested_one() -> None:
    layer = linear(20, 12, 10)
    mine = {p.untyped_storage().data_ptr() for p in layer.parameters()}
    for form in ("dense", "factored", "gauge"):
        for rank in (4, 10):
            plain = layer.plain(rank, form)
            theirs = {p.untyped_storage().data_ptr() for p in plain.parameters()}
            assert not mine & theirs
            assert all(p.requires_grad for p in plain.parameters())
            assert [getattr(plain, name) for name in layer.LIKE] == [20, 12]
