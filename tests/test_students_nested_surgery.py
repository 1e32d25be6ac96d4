"""Surgery on networks of all families: the same outputs, the best start, and what is refused."""

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from students.nested import starts
from students.nested.base import NestedLayer
from students.nested.cost import count_flops, dense_costs
from students.nested.errors import CalibrationError, RankError, SurgeryError
from students.nested.gauges import ColumnsGauge, RowsGauge
from students.nested.materialise import materialise
from students.nested.presets import usual
from students.nested.ranks import nested_layers, prepare, ranks, set_rank
from students.nested.surgery import nest, nest_like
from students.nested.surgery_record import Surgery, surgery_of
from tests.surgery_examples import FAMILIES, answer, batch_for, bert, gpt2, mobilenet, texts

MLPS = {
    "bert": {"bert.encoder.layer.0.intermediate.dense", "bert.encoder.layer.1.output.dense"},
    "llama": {f"model.layers.1.mlp.{each}_proj" for each in ("gate", "up", "down")},
    "neox": {"gpt_neox.layers.0.mlp.dense_h_to_4h", "gpt_neox.layers.0.mlp.dense_4h_to_h"},
    "gpt2": {"transformer.h.0.mlp.c_fc", "transformer.h.1.mlp.c_proj"},
    "deit": {"blocks.0.mlp.fc1", "blocks.1.mlp.fc2"},
    "mobilenet": {"blocks.1.0.conv_pw", "blocks.1.0.conv_pwl", "conv_head"},
    "timm_resnet": {"layer1.0.conv1", "layer1.0.conv3", "layer1.0.downsample.0"},
    "torchvision_resnet": {"layer2.0.conv1", "layer2.0.conv3", "layer1.0.downsample.0"},
    "torchvision_mobilenet": {"features.2.block.0.0", "features.2.block.2.0"},
    "torchvision_vit": {
        "encoder.layers.encoder_layer_0.mlp.0",
        "encoder.layers.encoder_layer_1.mlp.3",
    },
}
COUNTS = {
    "bert": 4, "llama": 6, "neox": 4, "gpt2": 4, "deit": 4, "mobilenet": 34, "timm_resnet": 20,
    "torchvision_resnet": 12, "torchvision_mobilenet": 22, "torchvision_vit": 4,
}  # fmt: skip


@pytest.mark.parametrize("init", ["svd", "whitened"])
@pytest.mark.parametrize("family", FAMILIES)
def test_at_full_rank_a_network_gives_what_it_gave(family: str, init: str) -> None:
    network, batch = FAMILIES[family](), batch_for(family, seed=1)
    before = answer(network, batch)
    heard: list[str] = []
    surgery = nest(network, init=init, calibration=[batch_for(family)], on_layer=heard.append)
    names = [each.name for each in surgery.layers]
    assert MLPS[family] <= set(names)
    assert len(names) == COUNTS[family]
    assert heard == names == list(nested_layers(network))
    after = answer(network, batch)
    assert float((after - before).abs().max()) <= 1e-5 * float(before.abs().max())
    set_rank(network, 1)
    assert float((answer(network, batch) - before).abs().max()) > 1e-3 * float(before.abs().max())


@pytest.mark.parametrize("family", ["bert", "gpt2", "deit", "torchvision_resnet"])
def test_everything_that_can_be_nested_may_be(family: str) -> None:
    network, batch = FAMILIES[family](), batch_for(family, seed=1)
    before = answer(network, batch)
    words = ("all", "!lm_head", "!*wte") if family == "gpt2" else ("all",)
    surgery = nest(network, words, init="whitened", calibration=[batch_for(family)])
    assert not surgery.left_out
    assert float((answer(network, batch) - before).abs().max()) <= 1e-5 * float(before.abs().max())


# --- which start errs less ------------------------------------------------------------------------


class Everything(nn.Module):
    """A layer of each kind and shape, after which inputs are far from white."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(30, 9)
        self.wide = nn.Linear(9, 14)
        self.narrow = nn.Linear(14, 9)
        self.square = nn.Linear(9, 9)
        self.patches = nn.Conv2d(1, 7, 2)
        self.pointwise = nn.Conv2d(7, 4, 1)

    def forward(self, ids: Tensor) -> Tensor:
        rows = self.square(self.narrow(torch.relu(self.wide(self.table(ids))) ** 2))
        found: Tensor = self.pointwise(torch.relu(self.patches(rows[:, None])))
        return found


def tokens(rows: int, seed: int) -> Tensor:
    """Few tokens come often, and some never."""
    drawn = torch.rand(rows, 6, generator=torch.Generator().manual_seed(seed))
    return (drawn**3 * 28).long()


def read_by(network: nn.Module, name: str, batches: list[Any]) -> Iterator[Tensor]:
    layer = network.get_submodule(name)
    seen: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    for batch in batches:
        answer(network, batch)
    hook.remove()
    yield from seen


def errors_by_rank(
    dense: nn.Module, network: nn.Module, name: str, batches: list[Any]
) -> np.ndarray:
    """Squared error of one layer's outputs on what the dense network feeds it, at each rank."""
    plain, layer = (each.get_submodule(name).double() for each in (dense, network))
    assert isinstance(layer, NestedLayer)
    found = np.zeros(layer.full_rank + 1)
    for inputs in read_by(copy.deepcopy(dense).float(), name, batches):
        wide = inputs if isinstance(plain, nn.Embedding) else inputs.double()
        with torch.no_grad():
            aim = plain(wide)
            found[0] += float(aim.square().sum())
            for rank in range(1, layer.full_rank + 1):
                layer.rank = rank
                found[rank] += float((layer(wide) - aim).square().sum())
    return found


@pytest.mark.parametrize("rows", [2, 40])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_whitened_start_errs_no_more_than_the_papers_at_any_rank_of_any_layer(
    rows: int, seed: int
) -> None:
    """Few rows or many; the tolerance is float32's in the factors, 1e-6 squared, with room."""
    torch.manual_seed(seed)
    dense = Everything().eval()
    batches = [tokens(rows, seed), tokens(1, seed + 1)]
    paper, whitened = copy.deepcopy(dense), copy.deepcopy(dense)
    nest(paper, "all")
    nest(whitened, "all", init="whitened", calibration=batches)
    for name in nested_layers(paper):
        plain, best = (errors_by_rank(dense, each, name, batches) for each in (paper, whitened))
        assert (best[1:] <= plain[1:] + 1e-11 * plain[0]).all(), name
        assert best[1:-1].sum() < 0.97 * plain[1:-1].sum(), name


def test_the_moment_of_a_narrowing_layer_is_taken_where_it_reads() -> None:
    """The same factors as from the moment of all inputs, not shrunk to speak of."""
    from students.nested.calibration import second_moments
    from students.nested.initial import shrink, whitened_factors

    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(12, 5))
    batches = [torch.randn(4000, 12) * torch.linspace(1, 3, 12)]
    moment = second_moments(network, ["0"], batches)["0"]
    expected = whitened_factors(
        network.get_parameter("0.weight"), shrink(moment.mean, 10**12)[0], 5
    )
    nest(network, "all", init="whitened", calibration=batches)
    for rank in range(1, 6):
        aim = expected.up[:, :rank] @ expected.down[:rank]
        np.testing.assert_allclose(
            nested_layers(network)["0"].weight_at(rank).detach(), aim.detach(), atol=2e-3
        )


def test_little_memory_takes_more_passes_and_gives_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    dense, batches = Everything(), [tokens(9, 0)]
    at_once, one_by_one = copy.deepcopy(dense), copy.deepcopy(dense)
    nest(at_once, "all", init="whitened", calibration=batches)
    passes: list[None] = []
    one_by_one.register_forward_pre_hook(lambda *_: passes.append(None))
    monkeypatch.setattr(starts, "MOST_BYTES", 1000)
    nest(one_by_one, "all", init="whitened", calibration=batches)
    assert len(passes) == 4  # 240 + 648 bytes, 1,656 alone, 648 + 128, 352
    for name, layer in nested_layers(at_once).items():
        np.testing.assert_array_equal(
            layer.up.detach(), nested_layers(one_by_one)[name].up.detach()
        )


# --- ranks ----------------------------------------------------------------------------------------


def plain() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(10, 8), nn.Linear(8, 3))


@pytest.mark.parametrize(
    ("rank", "expected"),
    [("full", [8, 3]), (5, [5, 3]), (0.5, [4, 2]), (1.0, [8, 3]), (0.01, [1, 1]), (1, [1, 1])],
)
def test_ranks_are_numbers_shares_or_full(rank: float | str, expected: list[int]) -> None:
    network = plain()
    surgery = nest(network, "all", rank=rank)
    assert list(ranks(network).values()) == [each.rank for each in surgery.layers] == expected


def test_a_clipped_rank_is_said() -> None:
    surgery = nest(plain(), "all", rank=5)
    assert [each.asked for each in surgery.layers] == [0, 5]
    assert "1: rank 5 was asked for, and it has only 3" in surgery.as_text()


@pytest.mark.parametrize(
    ("rank", "message"),
    [
        (0, r"rank must be in 1\.\.8, the most that a layer has \(0\), got 0"),
        (9, r"rank must be in 1\.\.8, the most that a layer has \(0\), got 9"),
        (0.0, r"a share of the full rank is in \(0, 1\], got 0\.0"),
        (1.5, r"a share of the full rank is in \(0, 1\], got 1\.5"),
        (float("nan"), r"a share of the full rank is in \(0, 1\], got nan"),
        ("half", r"rank is a number, a share in \(0, 1\] or 'full', got 'half'"),
        (True, r"rank is a number, a share in \(0, 1\] or 'full', got True"),
    ],
)
def test_ranks_that_no_layer_has_are_refused_before_anything_is_changed(
    rank: float | str, message: str
) -> None:
    network = plain()
    with pytest.raises(RankError, match=message):
        nest(network, "all", rank=rank)
    assert [type(layer) for layer in network] == [nn.Linear, nn.Linear]


# --- what stays -----------------------------------------------------------------------------------


def test_modes_gradients_biases_and_dtypes_stay() -> None:
    network = plain().bfloat16().train()
    network.get_parameter("0.weight").requires_grad_(False)
    network[1].eval()
    bias = network.get_parameter("0.bias").detach().clone()
    nest(network, "all")
    assert [layer.training for layer in network] == [True, False]
    held = dict(network.named_parameters())
    assert held["0.up"].dtype == torch.bfloat16
    learns = {name: parameter.requires_grad for name, parameter in held.items()}
    assert [name for name, does in learns.items() if not does] == ["0.up", "0.down"]
    np.testing.assert_array_equal(held["0.bias"].detach().float(), bias.float())


def test_a_second_surgery_adds_to_the_first() -> None:
    network = mobilenet()
    nest(network)
    second = nest(network, ("head", "convolution", "!*conv_pw*", "!conv_head"))
    both = surgery_of(network)
    assert [each.name for each in both.layers] == list(nested_layers(network))
    assert {"classifier", "conv_stem"} == {each.name for each in second.layers}
    assert "blocks.0.0.conv_dw" in both.left_out
    assert isinstance(surgery_of(nn.Sequential(network)), Surgery)


@pytest.mark.parametrize("family", ["bert", "deit", "mobilenet"])
def test_without_gauges_no_layer_is_run_or_counted_as_one(family: str) -> None:
    network, batch = FAMILIES[family](), batch_for(family)
    nest(network, gauges=False)
    costs, layers = dense_costs(network, batch), nested_layers(network)
    assert any(layer.full_rank > 2 for layer in layers.values())
    for name, layer in layers.items():
        d_in, d_out = layer.dims
        every = range(1, layer.full_rank + 1)
        wanted = [min(2 * rank * (d_in + d_out), 2 * d_in * d_out) for rank in every]
        found = [costs.of_layer(name, rank) / costs.rows[name] for rank in every]
        assert found == wanted
    for rank in (1, 3, max(layer.full_rank for layer in layers.values()) - 1):
        at = {name: min(rank, layer.full_rank) for name, layer in layers.items()}
        forms = {form for each in prepare(network, [at]).values() for form in each.values()}
        assert forms <= {"dense", "factored"}
        set_rank(network, at)
        assert count_flops(network, batch) == costs.flops(at)  # as it runs, prepared
        plain = materialise(network, at)
        assert not [m for m in plain.modules() if isinstance(m, RowsGauge | ColumnsGauge)]


def test_surgeries_with_gauges_and_without_may_meet_in_one_network() -> None:
    network = mobilenet()
    nest(network, gauges=False)
    nest(network, "head")
    kept = {each.name: each.gauges for each in surgery_of(network).layers}
    assert kept == {name: name == "classifier" for name in nested_layers(network)}
    assert {name: layer.gauges for name, layer in nested_layers(network).items()} == kept
    fresh = mobilenet()
    nest_like(fresh, Surgery.from_json(surgery_of(network).to_json()))
    assert {name: layer.gauges for name, layer in nested_layers(fresh).items()} == kept


def test_gpt2s_turned_weights_are_turned_back() -> None:
    network = gpt2()
    layer = network.get_submodule("transformer.h.0.mlp.c_fc")
    rows = torch.randn(2, 3, 16)
    turned = usual(layer)
    np.testing.assert_allclose(turned(rows).detach(), layer(rows).detach(), atol=1e-5)
    assert tuple(turned.get_parameter("weight").shape) == (64, 16)


def test_torchs_fused_encoder_layer_gives_the_same_and_is_told_of() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.TransformerEncoderLayer(8, 2, 12, batch_first=True)).eval()
    rows = torch.randn(2, 5, 8)
    before = answer(network, rows)
    surgery = nest(network, ("mlp", "attention"))
    assert [each.name for each in surgery.layers] == ["0.linear1", "0.linear2"]
    assert list(surgery.left_out) == ["0.self_attn.out_proj"]
    assert "MultiheadAttention reads its weight" in surgery.left_out["0.self_attn.out_proj"]
    assert "0.linear1: torch's fused encoder layer" in surgery.as_text()
    np.testing.assert_allclose(answer(network, rows), before, atol=1e-5)
    set_rank(network, 3)
    fused = answer(network, rows)
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        np.testing.assert_allclose(answer(network, rows), fused, atol=1e-5)
    finally:
        torch.backends.mha.set_fastpath_enabled(True)


# --- refusals -------------------------------------------------------------------------------------


def test_a_start_there_is_not_and_missing_batches_are_refused() -> None:
    with pytest.raises(SurgeryError, match="no start named 'whitend'; did you mean 'whitened'"):
        nest(plain(), "all", init="whitend")
    with pytest.raises(CalibrationError, match="reads calibration batches, and there are none"):
        nest(plain(), "all", init="whitened")


def test_nan_in_calibration_names_the_layer_and_changes_nothing() -> None:
    network = plain()
    rows = torch.randn(5, 10)
    rows[2, 3] = float("nan")
    with pytest.raises(CalibrationError, match=r"^0: NaN or infinity among what it reads"):
        nest(network, "all", init="whitened", calibration=[rows])
    assert [type(layer) for layer in network] == [nn.Linear, nn.Linear]


def test_too_few_rows_are_said() -> None:
    network = bert()
    surgery = nest(network, "head", init="whitened", calibration=[texts(rows=5)])
    (head,) = surgery.layers
    assert (head.rows, head.few) == (5, True)
    told = f"for the 3 directions that it reads; their covariance is shrunk by {head.shrunk:.2f}"
    assert f"classifier: only 5 calibration rows {told}" in surgery.as_text()
    assert 0 < head.shrunk < 1
    (enough,) = nest(bert(), "head", init="whitened", calibration=[texts(rows=6)]).layers
    assert not enough.few
