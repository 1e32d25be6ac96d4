"""Plain networks at one choice of ranks: what they hold, cost and say, in ONNX too."""

import contextlib
import io
import logging
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from students.nested.base import NestedLayer
from students.nested.errors import RankError
from students.nested.gauges import ColumnsGauge, Factored, RowsGauge
from students.nested.layers import NestedEmbedding
from students.nested.materialise import materialise
from students.nested.ranks import nested_layers, prepare, ranks, set_rank, using_ranks
from tests.nested_examples import Mlp, assert_near, conv, drawn, flops, linear, nested_of

ROWS = drawn(0, 5, 6)
TOKENS = torch.tensor([[1, 4, 2, 0], [3, 3, 5, 8], [7, 6, 5, 4]])
IMAGES = drawn(9, 3, 3, 9, 8)


class Block(nn.Module):
    """A transformer's block and its table and head, all nested but the norms."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = NestedEmbedding(9, 16, 12)
        self.norm1, self.norm2 = nn.LayerNorm(16), nn.LayerNorm(16)
        self.attention = linear(16, 48, 16, seed=1)
        self.out = linear(16, 16, 16, seed=2)
        self.fc1 = linear(16, 64, 16, seed=3)
        self.fc2 = linear(64, 16, 16, seed=4)
        self.head = linear(16, 3, 3, seed=5)

    def forward(self, tokens: Tensor) -> Tensor:
        rows = self.table(tokens)
        parts = self.attention(self.norm1(rows)).chunk(3, dim=-1)
        query, key, value = (part.unflatten(-1, (2, 8)).transpose(1, 2) for part in parts)
        mixed = nn.functional.scaled_dot_product_attention(query, key, value)
        rows = rows + self.out(mixed.transpose(1, 2).flatten(2))
        rows = rows + self.fc2(nn.functional.gelu(self.fc1(self.norm2(rows))))
        found: Tensor = self.head(rows.mean(dim=1))
        return found


class Pixels(nn.Module):
    """Convolutions of several windows, all nested, and a nested head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = conv(3, 16, 16, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.widen = conv(16, 32, 16, 1)
        self.wide = conv(32, 8, 8, (3, 1), dilation=2, padding=(2, 0))
        self.head = linear(8, 4, 4, seed=3)

    def forward(self, images: Tensor) -> Tensor:
        found = self.widen(torch.relu(self.norm(self.stem(images))))
        found = torch.relu(self.wide(found))
        logits: Tensor = self.head(found.mean(dim=(2, 3)))
        return logits


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Tensor]] = {
    "mlp": (Mlp, ROWS),
    "block": (Block, TOKENS),
    "pixels": (Pixels, IMAGES),
}
SHARES = (0.1, 0.3, 0.6, 1.0)  # of each layer's full rank


def at(network: nn.Module, share: float) -> dict[str, int]:
    layers = nested_layers(network)
    return {name: max(1, int(share * layer.full_rank)) for name, layer in layers.items()}


def answer(network: nn.Module, inputs: Tensor) -> Tensor:
    with torch.no_grad():
        found: Tensor = network(inputs)
    return found


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_a_plain_network_says_the_same_and_holds_nothing_nested(name: str, share: float) -> None:
    make, inputs = NETWORKS[name]
    network = make().eval()
    wanted = at(network, share)
    before = ranks(network)
    plain = materialise(network, wanted)
    assert ranks(network) == before
    assert not any(isinstance(module, NestedLayer) for module in plain.modules())
    ours = {
        type(module).__name__
        for module in plain.modules()
        if "students.nested" in type(module).__module__
    }
    assert ours <= {"RowsGauge", "ColumnsGauge", "Factored", "FactoredTable"}
    with using_ranks(network, wanted):
        assert_near(answer(plain, inputs), answer(network, inputs), 1e-4)
    storages = [
        {p.untyped_storage().data_ptr() for p in each.parameters()} for each in (network, plain)
    ]
    assert not storages[0] & storages[1]


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_it_costs_what_the_prepared_network_does_and_never_more_than_dense(
    name: str, share: float
) -> None:
    make, inputs = NETWORKS[name]
    network = make().eval()
    wanted = at(network, share)
    plain, dense = materialise(network, wanted), materialise(network, at(network, 1.0))
    prepare(network, [wanted])
    with using_ranks(network, wanted):
        prepared = flops(partial(answer, network, inputs))
    assert flops(partial(answer, plain, inputs)) == prepared
    full = flops(partial(answer, dense, inputs))
    assert prepared == full if share == 1.0 else prepared < full


def test_each_layer_is_in_its_cheapest_form() -> None:
    layers: dict[str, nn.Module] = {
        "dense": linear(8, 8, 8),
        "thin": linear(64, 64, 8),
        "rows": linear(30, 20, 8),
        "columns": linear(20, 30, 8),
        "window": conv(3, 16, 12, 3),
        "pixel": conv(16, 16, 16, 1),
        "table": NestedEmbedding(9, 4, 3),
    }
    plain = dict(materialise(nn.ModuleDict(layers), {"thin": 2, "window": 4}).named_children())
    assert [type(layer) for layer in plain.values()] == [
        nn.Linear, Factored, RowsGauge, ColumnsGauge, RowsGauge, nn.Conv2d, nn.Embedding,
    ]  # fmt: skip
    assert [type(layer) for layer in plain["thin"].children()] == [nn.Linear, nn.Linear]
    for name in ("dense", "thin", "rows", "columns"):
        assert plain[name].in_features == layers[name].in_features
        assert plain[name].out_features == layers[name].out_features
    assert plain["window"].out_channels == 16
    assert plain["table"].embedding_dim == 4
    bare = dict(materialise(nn.ModuleDict(layers), 3, gauges=False).named_children())
    assert [type(layer) for layer in bare.values()] == [
        Factored, Factored, Factored, Factored, Factored, Factored,
        nn.Embedding,
    ]  # fmt: skip


def test_unnamed_layers_are_taken_at_the_ranks_of_here_and_now() -> None:
    network = Mlp().eval()
    set_rank(network, 4)
    with using_ranks(network, {"fc2": 2}):
        expected = answer(network, ROWS)
        plain = materialise(network, {})
    assert_near(answer(plain, ROWS), expected, 1e-4)
    with pytest.raises(RankError, match=r"fc1: the rank must be in 1\.\.6, got 9"):
        materialise(network, {"fc1": 9})
    with pytest.raises(RankError, match="has no nested layers; nest it first"):
        materialise(plain, 1)


def test_one_layer_in_two_places_stays_one() -> None:
    network = nn.Sequential(linear(8, 8, 8), nn.ReLU(), linear(8, 8, 8, seed=4))
    network.append(network[0])
    plain = materialise(network.eval(), 3)
    assert plain.get_submodule("3") is plain.get_submodule("0")
    assert plain.get_submodule("2") is not plain.get_submodule("0")
    set_rank(network, 3)
    rows = drawn(0, 5, 8)
    assert_near(answer(plain, rows), answer(network, rows), 1e-4)


def test_a_single_layer_is_a_network_too() -> None:
    layer = linear(6, 12, 6)
    plain = materialise(layer, 3)
    layer.rank = 3
    assert isinstance(plain, ColumnsGauge)
    assert_near(answer(plain, ROWS), answer(layer, ROWS), 1e-4)


@pytest.mark.parametrize("training", [True, False])
def test_it_is_in_the_networks_mode_and_can_learn(training: bool) -> None:
    plain = materialise(Pixels().train(training), 2)
    assert all(module.training == training for module in plain.modules())
    found: Tensor = plain(IMAGES).sum()
    found.backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None for p in plain.parameters())


def test_where_torch_reads_weights_itself_they_are_there() -> None:
    torch.manual_seed(0)
    block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True).eval()
    for parent, name in ((block, "linear1"), (block, "linear2"), (block.self_attn, "out_proj")):
        setattr(parent, name, nested_of(getattr(parent, name)))
    plain = materialise(block, 3)
    set_rank(block, 3)
    rows = drawn(0, 2, 5, 8)
    assert_near(answer(plain, rows), block(rows), 1e-5)
    assert isinstance(plain.linear1, nn.Linear)


# --- ONNX -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def quietly() -> Any:
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
    logging.disable(before)


@pytest.mark.parametrize("name", ["block", "pixels"])
def test_onnxruntime_says_the_same_of_any_number_of_rows(name: str, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    make, inputs = NETWORKS[name]
    network = make().eval()
    wanted = at(network, 0.4)
    plain = materialise(network, wanted)
    assert any(isinstance(module, RowsGauge) for module in plain.modules())
    path = tmp_path / "plain.onnx"
    with quietly():
        program: Any = torch.onnx.export(
            plain,
            (inputs,),
            input_names=["inputs"],
            output_names=["logits"],
            dynamic_shapes=({0: "batch"},),
            opset_version=18,
            dynamo=True,
            verbose=False,
        )
        program.save(str(path))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for batch in (inputs, inputs[:1], torch.cat([inputs, inputs.flip(0)])):
        (found,) = session.run(None, {"inputs": batch.numpy()})
        with using_ranks(network, wanted):
            expected = answer(network, batch).numpy()
        size = np.abs(expected).max()
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * size)
