"""Nested layers: their matrices by hand and by NumPy, gradients, and torch's machinery."""

import copy
import itertools
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from students import read_tensors
from students.nested.base import NestedLayer
from students.nested.errors import NestedError, RankError, SurgeryError
from students.nested.kinds import matrix_of, nested
from students.nested.layers import NestedConv2d, NestedEmbedding, NestedLinear
from students.nested.ranks import set_rank, using_ranks
from tests.nested_examples import (
    Mlp,
    Operations,
    assert_near,
    conv,
    drawn,
    flops,
    linear,
    nested_of,
    svd_factors,
)
from tests.parallel_examples import gradients, nested_update, start

IMAGES = drawn(9, 2, 3, 9, 8)
TOKENS = torch.tensor([[1, 0, 10], [3, 3, 7]])
PLAIN: dict[str, tuple[Callable[[], nn.Module], Tensor]] = {
    "wide": (lambda: nn.Linear(5, 9), drawn(9, 2, 3, 5)),
    "narrow": (lambda: nn.Linear(9, 5, bias=False), drawn(9, 7, 9)),
    "1x1": (lambda: nn.Conv2d(3, 8, 1, stride=2), IMAGES),
    "3x3": (lambda: nn.Conv2d(3, 8, 3, stride=(2, 1), padding=1, bias=False), IMAGES),
    "dilated": (lambda: nn.Conv2d(3, 4, (3, 2), padding="same", dilation=2), IMAGES),
    "table": (lambda: nn.Embedding(11, 4, padding_idx=0), TOKENS),
}


@pytest.fixture(params=sorted(PLAIN))
def case(request: pytest.FixtureRequest) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    make, inputs = PLAIN[request.param]
    return make(), inputs


# --- what they compute ----------------------------------------------------------------------------


def test_a_linear_layer_by_hand() -> None:
    up, down = torch.tensor([[2.0, 3.0], [4.0, 5.0]]), torch.tensor([[1.0, 1.0, 0.0], [0, 2, 1]])
    layer = NestedLinear.from_factors(up, down, torch.tensor([10.0, 20.0]))
    rows = torch.tensor([[1.0, 2.0, 3.0]])  # A x = (3, 7)
    assert layer(rows).tolist() == [[10 + 2 * 3 + 3 * 7, 20 + 4 * 3 + 5 * 7]]
    layer.rank = 1
    assert layer(rows).tolist() == [[10 + 2 * 3, 20 + 4 * 3]]
    assert layer.weight.tolist() == [[2, 2, 0], [4, 4, 0]]
    assert layer.weight_at(2).tolist() == [[2, 8, 3], [4, 14, 5]]


@given(
    d_in=st.integers(1, 9), d_out=st.integers(1, 9), full=st.integers(1, 9), seed=st.integers(0, 99)
)
def test_a_linear_layer_is_numpys_at_every_rank(
    d_in: int, d_out: int, full: int, seed: int
) -> None:
    layer, rows = linear(d_in, d_out, full, seed=seed), drawn(seed + 7, 4, d_in)
    up, down = (tensor.detach().numpy().astype("f8") for tensor in (layer.up, layer.down))
    assert layer.bias is not None
    for rank in range(1, full + 1):
        layer.rank = rank
        weight = up[:, :rank] @ down[:rank]
        expected = rows.numpy() @ weight.T + layer.bias.detach().numpy()
        assert_near(layer(rows), expected, 1e-5)
        assert_near(layer.weight, weight, 1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        {"kernel_size": 1},
        {"kernel_size": 3, "padding": 1, "stride": 2},
        {"kernel_size": (2, 3), "dilation": (1, 2), "padding": (0, 2)},
    ],
)
def test_a_convolution_is_the_matrix_of_numpy_on_its_patches(settings: dict[str, Any]) -> None:
    like = nn.Conv2d(3, 5, **settings)
    d_in = 3 * int(np.prod(like.kernel_size))
    up, down, bias = drawn(0, 5, 3), drawn(1, 3, d_in), drawn(2, 5)
    layer = NestedConv2d.from_factors(up, down, bias, like=like)
    patches = nn.functional.unfold(IMAGES, **{**settings, "kernel_size": like.kernel_size}).numpy()
    for rank in (1, 2, 3):
        layer.rank = rank
        weight = (up[:, :rank] @ down[:rank]).numpy()
        expected = np.einsum("oi,bip->bop", weight, patches) + bias.numpy()[:, None]
        assert_near(layer(IMAGES).flatten(2), expected, 1e-5)
        assert layer.weight.shape == like.weight.shape


def test_an_embedding_is_the_rows_of_the_matrix() -> None:
    up, down = drawn(0, 11, 3), drawn(1, 3, 4)
    layer = NestedEmbedding.from_factors(up, down, like=nn.Embedding(11, 4))
    for rank in (1, 2, 3):
        layer.rank = rank
        assert_near(layer(TOKENS), (up[:, :rank] @ down[:rank]).numpy()[TOKENS.numpy()], 1e-5)


def test_at_full_rank_it_is_the_dense_layer(case: tuple[nn.Module, Tensor]) -> None:
    layer, inputs = case
    assert_near(nested_of(layer)(inputs), layer(inputs), 1e-5)


def test_each_rank_adds_one_column_times_one_row(case: tuple[nn.Module, Tensor]) -> None:
    layer = nested_of(case[0])
    weights = [layer.weight_at(rank).detach().flatten(1) for rank in range(1, layer.full_rank + 1)]
    for rank, (small, large) in enumerate(itertools.pairwise(weights), start=1):
        added = torch.outer(layer.up[:, rank], layer.down[rank])
        assert_near(large - small, added, 1e-4)
        solved = torch.linalg.lstsq(large.double(), small.double(), driver="gelsd").solution
        assert_near(large.double() @ solved, small, 1e-5)  # Im(W_r) lies in Im(W_{r+1})
    ranks = [int(torch.linalg.matrix_rank(weight, rtol=1e-5)) for weight in weights]
    assert ranks == list(range(1, layer.full_rank + 1))


@pytest.mark.parametrize("rank", [1, 3, 4])
def test_it_costs_two_thin_products(rank: int) -> None:
    rows = drawn(0, 7, 6)
    layer = linear(6, 9, 4)
    layer.rank = rank
    assert flops(lambda: layer(rows)) == 7 * 2 * rank * (6 + 9) == 7 * layer.cost(rank, "factored")
    window = conv(3, 8, 4, 3, padding=1)
    window.rank = rank
    positions = 2 * 9 * 8
    assert flops(lambda: window(IMAGES)) == positions * 2 * rank * (27 + 8)
    assert window.cost(rank, "factored") == 2 * rank * (27 + 8)
    table = NestedEmbedding(11, 5, 4)
    table.rank = rank
    assert flops(lambda: table(TOKENS)) == 6 * 2 * rank * 5 == 6 * table.cost(rank, "factored")


@pytest.mark.parametrize(("rows", "rank", "whole"), [(9, 4, False), (60, 4, True), (60, 3, False)])
def test_beyond_break_even_many_rows_meet_the_matrix_itself(
    rows: int, rank: int, whole: bool
) -> None:
    """5 x 9 at rank 4: 56 of 45 multiply-adds a row, so that 180 for the matrix pay from 17 on."""
    layer, inputs = linear(9, 5, 5), drawn(0, rows, 9)
    layer.rank = rank
    made = 2 * 5 * 9 * (rank + rows)
    assert flops(lambda: layer(inputs)) == (made if whole else rows * layer.cost(rank, "factored"))
    assert layer.cost_unprepared(rank, rows) == flops(lambda: layer(inputs))


@pytest.mark.parametrize(
    ("side", "settings"),
    [
        (8, {"kernel_size": 8}),
        (9, {"kernel_size": 3, "stride": 2, "padding": 1}),
        (9, {"kernel_size": (3, 2), "padding": "same", "dilation": 2}),
        (7, {"kernel_size": (2, 3), "stride": (3, 1), "padding": "valid", "dilation": (1, 2)}),
        (8, {"kernel_size": 1, "stride": 3}),
    ],
    ids=str,
)
def test_a_convolution_counts_the_positions_of_its_outputs(
    side: int, settings: dict[str, Any]
) -> None:
    layer = nested_of(nn.Conv2d(3, 8, **settings))
    for shape in ((2, 3, side, side + 1), (3, side, side + 1), (0, 3, side, side)):
        images = torch.zeros(shape)
        assert layer._positions(images) == layer(images).numel() // 8
        assert flops(lambda: layer(images)) == layer.cost_unprepared(  # noqa: B023
            layer.full_rank, layer._positions(images)
        )


@pytest.mark.parametrize("name", sorted(set(PLAIN) - {"table"}))
def test_an_exporter_sees_one_way_whatever_the_number_of_rows(name: str) -> None:
    make, inputs = PLAIN[name]
    torch.manual_seed(0)
    layer = nested_of(make()).eval()
    few, many = inputs[:2], inputs.repeat(40, *[1] * (inputs.ndim - 1))
    batch = torch.export.Dim("batch", min=2, max=4096)
    program = torch.export.export(layer, (few,), dynamic_shapes=({0: batch},)).module()
    for rows in (few, many):
        assert_near(program(rows), layer(rows), 1e-5)


TRACED = """
import torch
from students.nested.layers import NestedConv2d, NestedLinear
for layer, shape in (NestedLinear(9, 5, 5), (9,)), (NestedConv2d(3, 8, 8), (3, 4, 4)):
    traced = torch.fx.symbolic_trace(layer)
    for rows in 2, 500:
        inputs = torch.randn(rows, *shape)
        torch.testing.assert_close(traced(inputs), layer(inputs), rtol=1e-4, atol=1e-5)
"""


def test_torchs_tracer_sees_one_way_too() -> None:
    """In a process of its own: here types are checked, and it passes no tensors."""
    subprocess.run([sys.executable, "-c", TRACED], check=True)


@pytest.mark.parametrize("name", sorted(PLAIN))
def test_by_the_matrix_it_gives_and_learns_what_two_products_do(name: str) -> None:
    make, inputs = PLAIN[name]
    torch.manual_seed(0)
    layer, many = nested_of(make()), inputs.repeat(40, *[1] * (inputs.ndim - 1))
    table = isinstance(layer, NestedEmbedding)
    paid = layer.full_rank > layer._break_even
    assert (paid and layer._pays(layer._positions(many), layer.full_rank)) is not table
    factored = layer._factored(many, layer.full_rank)
    aim = drawn(3, *factored.shape)
    (factored * aim).sum().backward()  # type: ignore[no-untyped-call]
    wanted = [p.grad for p in layer.parameters()]
    layer.zero_grad()
    found = layer(many)
    (found * aim).sum().backward()
    assert_near(found, factored, 1e-5)
    for parameter, gradient in zip(layer.parameters(), wanted, strict=True):
        assert parameter.grad is not None
        assert gradient is not None
        assert_near(parameter.grad, gradient, 1e-5)
    if not table:
        assert flops(lambda: layer(many)) < flops(lambda: layer._factored(many, layer.full_rank))


def test_a_smaller_rank_copies_nothing() -> None:
    layer, rows = linear(6, 9, 4), drawn(0, 7, 6)
    layer.rank = 3
    with torch.no_grad(), Operations() as seen:
        layer(rows)
    assert sorted(set(seen.names)) == ["addmm", "mm", "slice", "t"]


def test_new_layers_vary_as_torchs_own() -> None:
    torch.manual_seed(0)
    for made, like in (
        (NestedLinear(64, 48, 32), nn.Linear(64, 48)),
        (NestedConv2d(16, 48, 32, kernel_size=(3, 3)), nn.Conv2d(16, 48, 3)),
        (NestedEmbedding(90, 48, 32), nn.Embedding(90, 48)),
    ):
        found = float(made.weight.detach().std() / like.weight.detach().std())
        assert found == pytest.approx(1, abs=0.15)
    padded = NestedEmbedding(11, 4, 3, padding_idx=2)
    assert not padded(torch.tensor([2])).any()
    assert padded(torch.tensor([3])).any()


# --- learning -------------------------------------------------------------------------------------


def test_gradients_are_those_of_the_product_and_zero_beyond_the_rank(
    case: tuple[nn.Module, Tensor],
) -> None:
    layer, inputs = nested_of(case[0]), case[1]
    rank = layer.rank = layer.full_rank - 1
    aim = drawn(3, *layer(inputs).shape)
    (layer(inputs) * aim).sum().backward()
    found = {name: p.grad for name, p in layer.named_parameters()}
    plain = copy.deepcopy(case[0])
    with torch.no_grad():
        plain.get_parameter("weight").copy_(layer.weight)
    (plain(inputs) * aim).sum().backward()
    of_weight = plain.get_parameter("weight").grad
    assert of_weight is not None
    assert found["up"] is not None
    assert found["down"] is not None
    through = of_weight.flatten(1)
    assert_near(found["up"][:, :rank], through @ layer.down[:rank].T, 1e-4)
    if not isinstance(plain, nn.Embedding):  # a padding token counts nothing there
        assert_near(found["down"][:rank], layer.up[:, :rank].T @ through, 1e-4)
    assert not found["up"][:, rank:].any()
    assert not found["down"][rank:].any()


def test_the_row_of_padding_gets_no_gradient() -> None:
    layer = nested_of(nn.Embedding(11, 4, padding_idx=0))
    layer(TOKENS).sum().backward()
    assert layer.up.grad is not None
    assert not layer.up.grad[0].any()
    assert layer.up.grad[[1, 3, 7, 10]].any(dim=1).all()


def test_gradients_of_two_half_batches_add_up_to_those_of_the_whole() -> None:
    network, rows, aim = Mlp(), drawn(0, 8, 6), drawn(1, 8, 3)
    set_rank(network, {"fc1": 2, "fc2": 5})
    ((network(rows) - aim) ** 2).sum().backward()
    whole = [p.grad.clone() for p in network.parameters() if p.grad is not None]
    network.zero_grad()
    for half in (slice(0, 3), slice(3, 8)):
        ((network(rows[half]) - aim[half]) ** 2).sum().backward()
    parts = [p.grad for p in network.parameters() if p.grad is not None]
    assert len(whole) == len(parts) == 8
    for part, sum_ in zip(parts, whole, strict=True):
        assert_near(part, sum_, 1e-5)


def test_it_learns_under_autocast(case: tuple[nn.Module, Tensor]) -> None:
    layer, inputs = nested_of(case[0]), case[1]
    layer.rank = layer.full_rank - 1
    exact = layer(inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = layer(inputs)
    assert found.dtype == torch.bfloat16
    assert_near(found, exact, 0.03)
    assert bool((found.float() != exact).any())
    found.float().square().sum().backward()
    for parameter in layer.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
        assert parameter.grad.dtype == torch.float32


class Spare(nn.Module):
    """A nested network with a parameter that nothing uses."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Mlp()
        self.spare = nn.Parameter(torch.zeros(2))

    def forward(self, rows: Tensor) -> Tensor:
        found: Tensor = self.inner(rows)
        return found


@contextmanager
def one_process(folder: Path) -> Iterator[None]:
    rendezvous = f"file://{folder / 'rendezvous'}"
    torch.distributed.init_process_group("gloo", init_method=rendezvous, rank=0, world_size=1)
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()


def test_data_parallel_training_at_changing_ranks_finds_no_unused_parameters(
    tmp_path: Path,
) -> None:
    rows = drawn(0, 4, 6)
    with one_process(tmp_path):
        alone, network = Mlp(), Mlp()
        together = DistributedDataParallel(network)
        for rank in (6, 1, 3):
            for each in (alone, network):
                set_rank(each, rank)
                each.zero_grad()
            alone(rows).square().sum().backward()
            together(rows).square().sum().backward()
            for one, other in zip(alone.parameters(), network.parameters(), strict=True):
                assert one.grad is not None
                assert other.grad is not None
                assert torch.equal(one.grad, other.grad)
        careless = DistributedDataParallel(Spare())  # the check can fail
        careless(rows).sum().backward()
        with pytest.raises(RuntimeError, match="find_unused_parameters"):
            careless(rows)


def test_two_processes_have_the_gradients_of_one_on_all_rows(tmp_path: Path) -> None:
    """In torch's own DistributedDataParallel, over passes at several ranks."""
    for code, told in start("nested", tmp_path):
        assert code == 0, told
    network = Mlp()
    nested_update(network, drawn(0, 8, 6))
    expected = gradients(network)
    assert expected.keys() == dict(network.named_parameters()).keys()
    for rank in (0, 1):
        found = read_tensors(tmp_path / f"nested-{rank}.safetensors")[0]
        assert found.keys() == expected.keys()
        for name, gradient in expected.items():
            assert_near(found[name], gradient, 1e-5)
    alone = Mlp()
    nested_update(alone, drawn(0, 8, 6)[::2])
    with pytest.raises(AssertionError):  # the check can fail
        assert_near(gradients(alone)["fc1.up"], expected["fc1.up"], 1e-2)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_compiled_network_follows_its_ranks(backend: str) -> None:
    torch._dynamo.reset()
    layer, rows = linear(6, 5, 4), drawn(0, 3, 6)
    network = nn.Sequential(layer, nn.ReLU())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch about itself
        compiled: Any = torch.compile(network, backend=backend)
        for rank in (4, 2):
            set_rank(network, rank)
            assert_near(compiled(rows), network(rows), 1e-5)
        with using_ranks(network, 1):
            assert_near(compiled(rows), network(rows), 1e-5)
        compiled(rows).sum().backward()
        assert layer.up.grad is not None
        assert layer.up.grad[:, :2].any()
        assert not layer.up.grad[:, 2:].any()
        network.eval()
        layer.prepare({2})
        with torch.no_grad():
            assert_near(compiled(rows), network(rows), 1e-5)
    torch._dynamo.reset()


@pytest.mark.slow
def test_inductor_gives_what_the_network_gives_at_every_rank_it_is_set_to() -> None:
    """Outputs and gradients, of one compiled network whose rank changes between calls."""
    torch._dynamo.reset()
    network, rows = Mlp(), drawn(0, 5, 6)
    alike = copy.deepcopy(network)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch about itself
        compiled: Any = torch.compile(network, backend="inductor")
        seen = []
        for rank in (6, 1, 3, 6):
            for each in (network, alike):
                set_rank(each, rank)
                each.zero_grad()
            found, expected = compiled(rows), alike(rows)
            assert_near(found, expected, 1e-5)
            found.square().sum().backward()
            expected.square().sum().backward()
            assert gradients(network).keys() == gradients(alike).keys()
            for name, gradient in gradients(alike).items():
                assert_near(gradients(network)[name], gradient, 1e-4)
            seen.append(found.detach())
    torch._dynamo.reset()
    assert torch.equal(seen[0], seen[3])
    for one, other in itertools.combinations(seen[:3], 2):
        assert not torch.allclose(one, other, atol=1e-2)


# --- in place of a plain layer --------------------------------------------------------------------


def test_code_that_reads_the_weight_finds_that_of_the_rank() -> None:
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    rows = drawn(0, 2, 5, 8)
    expected = attention(rows, rows, rows)[0]
    attention.out_proj = nested_of(attention.out_proj)  # type: ignore[assignment]
    assert_near(attention(rows, rows, rows)[0], expected, 1e-5)
    set_rank(attention, 2)
    found = attention(rows, rows, rows)[0]
    assert bool(((found - expected).abs() > 1e-3).any())


@pytest.mark.parametrize("rank", [8, 3])
def test_torchs_encoder_layer_agrees_with_itself_on_its_fast_path(rank: int) -> None:
    torch.manual_seed(0)
    block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True).eval()
    block.linear1 = nested_of(block.linear1)  # type: ignore[assignment]
    set_rank(block, rank)
    rows = drawn(0, 2, 5, 8)
    with torch.no_grad():
        fast = block(rows)
    assert_near(fast, block(rows), 1e-5)  # gradients: no fast path


def test_it_has_the_plain_layers_settings_and_mode(case: tuple[nn.Module, Tensor]) -> None:
    layer = case[0].eval()
    made = nested_of(layer)
    assert not made.training
    for name in made.LIKE:
        assert getattr(made, name) == getattr(layer, name)
    assert made.weight.shape == layer.get_parameter("weight").shape
    assert f"rank={made.rank} of {made.full_rank}" in repr(made)
    columns, rows = matrix_of(layer).shape
    assert made.dims == ((columns, rows) if isinstance(layer, nn.Embedding) else (rows, columns))


# --- state ----------------------------------------------------------------------------------------


def test_the_state_comes_back_with_its_rank_through_safetensors(tmp_path: Path) -> None:
    network, other, rows = Mlp(), Mlp(), drawn(0, 4, 6)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.1)
    set_rank(network, {"fc1": 2, "fc2": 5})
    save_file(network.state_dict(), tmp_path / "state.safetensors")
    other.load_state_dict(load_file(tmp_path / "state.safetensors"))
    assert (other.fc1.rank, other.fc2.rank) == (2, 5)
    assert torch.equal(other(rows), network(rows))
    set_rank(other, 6)
    set_rank(network, 6)
    assert torch.equal(other(rows), network(rows))
    smaller = linear(6, 12, 1)
    with pytest.raises(RankError, match=r"rank must be in 1\.\.1, got 2"):
        smaller.load_state_dict({**smaller.state_dict(), "_extra_state": torch.tensor(2)})


def test_the_parameters_are_the_factors_that_were_given() -> None:
    up, down = drawn(0, 5, 2), drawn(1, 2, 3)
    layer = NestedLinear.from_factors(up, down, None)
    assert layer.up.data_ptr() == up.data_ptr()
    assert sorted(dict(layer.named_parameters())) == ["down", "up"]
    assert layer.up.requires_grad


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("rank", [0, -1, 5])
def test_a_rank_outside_its_range_is_refused(rank: int) -> None:
    layer = linear(6, 9, 4)
    for ask in (layer.weight_at, lambda r: layer.plain(r, "dense"), lambda r: layer.prepare({r})):
        with pytest.raises(RankError, match=rf"the rank must be in 1\.\.4, got {rank}"):
            ask(rank)
    with pytest.raises(RankError, match=rf"the rank must be in 1\.\.4, got {rank}"):
        layer.rank = rank
    assert layer.rank == 4


def test_a_layer_of_no_ranks_is_refused() -> None:
    with pytest.raises(RankError, match="the full rank must be at least 1, got 0"):
        NestedLinear(3, 4, 0)


class Doubling(nn.Linear):
    """More than a matrix."""

    def forward(self, rows: Tensor) -> Tensor:
        return 2 * super().forward(rows)


def quantised() -> nn.Module:
    layer = nn.Linear(3, 4)
    layer.weight = nn.Parameter(torch.zeros(4, 3, dtype=torch.int8), requires_grad=False)
    return layer


UNUSUAL: list[tuple[Callable[[], nn.Module], str]] = [
    (lambda: nn.Conv2d(4, 6, 3, groups=2), "a convolution of 2 groups cannot be nested.*leave it"),
    (lambda: nn.Conv2d(3, 6, 3, padding_mode="reflect"), "padded by 'reflect' cannot be nested"),
    (lambda: nn.Embedding(5, 3, max_norm=1.0), "an embedding with max_norm, scale_grad_by_freq"),
    (lambda: nn.Embedding(5, 3, sparse=True), "or sparse gradients cannot be nested"),
    (lambda: nn.Embedding(5, 3, scale_grad_by_freq=True), "scale_grad_by_freq"),
    (lambda: nn.LayerNorm(3), "a LayerNorm cannot be nested: only linear layers, convolutions and"),
    (lambda: nn.ConvTranspose2d(3, 4, 2), "a ConvTranspose2d cannot be nested"),
    (lambda: Doubling(3, 4), r"Doubling cannot be nested: it does more than Linear does"),
    (lambda: linear(3, 4, 2), "it is nested already"),
    (quantised, r"a weight of torch\.int8 cannot be nested: take the network before it was"),
    (
        lambda: nn.utils.parametrizations.weight_norm(nn.Linear(3, 4)),
        "whose weight is computed cannot be nested: remove its parametrisation first",
    ),
]


@pytest.mark.parametrize(("make", "message"), UNUSUAL)
def test_a_layer_that_is_no_plain_matrix_is_refused(
    make: Callable[[], nn.Module], message: str
) -> None:
    layer = make()
    for ask in (matrix_of, lambda layer: nested(layer, drawn(0, 4, 2), drawn(0, 2, 3))):
        with pytest.raises(SurgeryError, match=message):
            ask(layer)


def test_factors_that_do_not_fit_are_refused() -> None:
    up, down = drawn(0, 4, 2), drawn(0, 2, 3)
    make = NestedLinear.from_factors
    with pytest.raises(
        NestedError, match=r"of one floating dtype, got torch\.float32, torch\.float64"
    ):
        make(up, down.double(), None)
    window = nn.Conv2d(3, 4, 3)
    with pytest.raises(NestedError, match=r"matrix \(4, 3\) do not fit a convolution of \(4, 27\)"):
        NestedConv2d.from_factors(up, down, None, like=window)
    with pytest.raises(NestedError, match="no gauge form: take dense or factored"):
        NestedEmbedding(9, 5, 4).plain(2, "gauge")
    with pytest.raises(RankError, match="rank 3 leaves a gauge nothing to spare"):
        linear(3, 9, 4).plain(3, "gauge")


def test_a_nested_layer_of_every_kind_is_a_nested_layer() -> None:
    for make, _ in PLAIN.values():
        layer = make()
        assert isinstance(nested(layer, *svd_factors(matrix_of(layer))), NestedLayer)
