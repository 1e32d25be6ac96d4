"""Networks whose code does more with a layer than call it: its weight is read, it has hooks."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune

from students import Evaluation
from students import nested as n

ROWS = torch.randn(40, 12, generator=torch.Generator().manual_seed(0))


class Reading(nn.Module):
    """T5 asks a layer's weight for its dtype, BEiT multiplies with it itself."""

    def __init__(self, *, called: bool = True) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.first, self.last = nn.Linear(12, 24), nn.Linear(24, 8)
        self.called = called

    def forward(self, rows: Tensor) -> Tensor:
        made = torch.relu(self.first(rows)).to(self.last.weight.dtype)
        if self.called:
            return self.last(made)  # type: ignore[no-any-return]
        return nn.functional.linear(made, self.last.weight, self.last.bias)


@pytest.mark.parametrize("called", [True, False])
def test_costs_are_shares_of_what_the_dense_network_costs(called: bool) -> None:
    dense = Reading(called=called).eval()
    network = copy.deepcopy(dense)
    n.nest(network, ["first", "last"], gauges=False)
    costs = n.dense_costs(network, ROWS)
    assert costs.total == n.count_flops(dense, ROWS) == 2 * 40 * (12 * 24 + 24 * 8)
    saved = 2 * 40 * (12 * 24 - 3 * (12 + 24)) + called * 2 * 40 * (24 * 8 - 3 * (24 + 8))
    assert costs.flops({"first": 3, "last": 3}) == costs.total - saved


@pytest.mark.parametrize("called", [True, False])
@pytest.mark.parametrize("gauges", [False, True])
@pytest.mark.parametrize("rank", [2, 7, 8])
def test_a_plain_network_s_weights_can_be_read_in_every_form(
    called: bool, gauges: bool, rank: int
) -> None:
    network = Reading(called=called).eval()
    n.nest(network, ["first", "last"])
    n.set_rank(network, rank)
    plain = n.materialise(network, rank, gauges=gauges)
    torch.testing.assert_close(plain(ROWS), network(ROWS), rtol=1e-4, atol=1e-5)
    for name in ("first", "last"):
        one, other = plain.get_submodule(name), network.get_submodule(name)
        torch.testing.assert_close(one.weight, other.weight, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(one.bias, other.bias, rtol=1e-4, atol=1e-5)


def test_weights_of_plain_convolutions_and_tables_can_be_read_in_every_form() -> None:
    layers = nn.Sequential(
        nn.Conv2d(6, 9, 3, padding=1), nn.Conv2d(9, 5, 1), nn.Conv2d(6, 9, 3, bias=False),
        nn.Embedding(30, 8),
    )  # fmt: skip
    n.nest(layers, ["*"])
    for layer in layers:
        assert isinstance(layer, n.NestedLayer)
        for rank in (1, 3, 4):
            layer.rank = rank
            for form in ("dense", "factored", "gauge"):
                if form == "gauge" and isinstance(layer, n.NestedEmbedding):
                    continue
                plain: Any = layer.plain(rank, form)
                torch.testing.assert_close(plain.weight, layer.weight, rtol=1e-4, atol=1e-5)
                if isinstance(layer, n.NestedConv2d) and layer.bias is None:
                    assert plain.bias is None
                elif isinstance(layer, n.NestedConv2d):
                    torch.testing.assert_close(plain.bias, layer.bias, rtol=1e-4, atol=1e-5)


class Handing(nn.Module):
    """Hands a parameter of its own to a layer, as CaiT its class token."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.ones(1, 12))
        self.layer = nn.Linear(12, 8)

    def forward(self, rows: Tensor) -> Tensor:
        return self.layer(rows) + self.layer(self.token)  # type: ignore[no-any-return]


def test_a_network_that_hands_on_a_parameter_is_counted() -> None:
    network = Handing()
    assert n.count_flops(network, ROWS) == 2 * 41 * 12 * 8
    n.nest(network, ["layer"])
    assert n.dense_costs(network, ROWS).total == 2 * 41 * 12 * 8


def _parametrised(layer: nn.Linear) -> None:
    parametrize.register_parametrization(layer, "bias", nn.Tanh())


def _pruned(layer: nn.Linear) -> None:
    prune.l1_unstructured(layer, "bias", 0.5)  # type: ignore[no-untyped-call]


def _hooked(layer: nn.Linear) -> None:
    layer.register_forward_hook(lambda *given: given[2] + 1)


def _hooked_before(layer: nn.Linear) -> None:
    layer.register_forward_pre_hook(lambda *given: (given[1][0] + 1,))


def _replaced(layer: nn.Linear) -> None:
    layer.forward = lambda inputs: inputs[..., :8]  # type: ignore[method-assign, assignment]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (_parametrised, "whose bias is computed|hooks or a forward of its own"),
        (_pruned, "whose bias is computed|hooks or a forward of its own"),
        (_hooked, "hooks or a forward of its own"),
        (_hooked_before, "hooks or a forward of its own"),
        (_replaced, "hooks or a forward of its own"),
    ],
)
def test_what_would_be_lost_is_refused(change: Any, why: str) -> None:
    network = nn.Sequential(nn.Linear(12, 8), nn.Linear(8, 8))
    change(network[0])
    with pytest.raises(n.SurgeryError, match=why):
        n.nest(network, ["0"])
    assert not any(isinstance(module, n.NestedLayer) for module in network.modules())
    left_out = n.nest(network, ["*"]).left_out
    assert list(left_out) == ["0"]


def test_the_method_of_the_class_put_on_a_layer_is_no_other_forward() -> None:
    """As transformers leaves it where it has recorded outputs."""
    network = nn.Sequential(nn.Linear(12, 8))
    network[0].forward = network[0].forward
    assert "forward" in network[0].__dict__
    n.nest(network, ["0"])
    assert n.ranks(network) == {"0": 8}


def test_a_record_that_does_not_fit_is_not_saved(tmp_path: Path) -> None:
    """Of a part that was nested for itself, and of both."""
    network = nn.ModuleDict({"body": nn.Sequential(nn.Linear(12, 24)), "head": nn.Linear(24, 4)})
    n.nest(network["body"], ["*"])
    path = n.NestedPath(points=(n.PathPoint(share=1.0, ranks={"0": 12}),), measured_at="x")
    for _ in range(2):
        with pytest.raises(n.NestedError, match=r"nest the whole network that is saved"):
            n.save_nested(tmp_path / "nested.safetensors", network, path=path, card={})
        if not isinstance(network["head"], n.NestedLayer):
            n.nest(network, ["head"])
    assert not list(tmp_path.iterdir())


def _normed() -> tuple[nn.Module, n.NestedPath, tuple[n.NormStatistics, ...]]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(12, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)).eval()
    n.nest(network, ["0", "2"])
    settings = ({"0": 8, "2": 3}, {"0": 2, "2": 1})
    points = tuple(n.PathPoint(share=1 - at / 2, ranks=r) for at, r in enumerate(settings))
    norms = []
    for setting in settings:
        n.set_rank(network, setting)
        norms.append(n.measure_norms(network, [(ROWS,)]))
    n.set_rank(network, settings[0])
    return network, n.NestedPath(points=points, measured_at="x"), tuple(norms)


def test_a_plain_copy_has_the_norms_of_the_budget_it_is_made_within() -> None:
    network, path, norms = _normed()
    n.attach(network, path, norms)
    with n.using_budget(network, 0.5):
        wanted = network(ROWS)
        plain = n.materialise(network, n.ranks(network))
    torch.testing.assert_close(plain(ROWS), wanted, rtol=1e-4, atol=1e-5)
    whole = n.materialise(network, n.ranks(network))
    torch.testing.assert_close(whole(ROWS), network(ROWS), rtol=1e-4, atol=1e-5)
    one, other = (made.get_buffer("1.running_var") for made in (plain, whole))
    assert not torch.allclose(one, other)


def test_attached_norms_are_saved_with_the_network(tmp_path: Path) -> None:
    network, path, norms = _normed()
    n.attach(network, path, norms)
    n.save_nested(tmp_path / "nested.safetensors", network, path=path, card={})
    fresh = nn.Sequential(nn.Linear(12, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
    n.fill(fresh, tmp_path)
    for budget in (1.0, 0.5):
        n.set_budget(network, budget)
        n.set_budget(fresh, budget)
        torch.testing.assert_close(fresh(ROWS), network(ROWS), rtol=0, atol=0)


def test_norms_of_another_network_are_refused_when_they_are_attached() -> None:
    network, path, norms = _normed()
    others = tuple(n.NormStatistics(of={"5": next(iter(one.of.values()))}) for one in norms)
    with pytest.raises(n.OtherSurgeryError, match="the statistics are of another network"):
        n.attach(network, path, others)


def test_a_second_surgery_forgets_the_path_of_the_first() -> None:
    network = nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3))
    n.nest(network, ["0"])
    point = n.PathPoint(share=1.0, ranks={"0": 8})
    n.attach(network, n.NestedPath(points=(point,), measured_at="x"))
    n.set_budget(network, 1.0)
    n.nest(network, ["2"])
    with pytest.raises(n.BudgetError, match="path"):
        n.set_budget(network, 1.0)


def test_ranks_are_examined_as_they_are_asked_for_within_others() -> None:
    network = nn.Sequential(nn.Linear(12, 8))
    n.nest(network, ["0"])
    n.set_rank(network, 5)
    seen: list[int] = []

    def evaluate(module: nn.Module) -> Evaluation:
        seen.append(n.ranks(module)["0"])
        return Evaluation(accuracy=0.5, loss=1.0)

    with n.using_ranks(network, 2):
        n.evaluate_ranks(network, {"a": 3, "b": 1}, evaluate)
        assert n.ranks(network) == {"0": 2}
    assert seen == [3, 1]
    assert n.ranks(network) == {"0": 5}


def test_a_layer_that_runs_without_gradients_cannot_learn_hints() -> None:
    """Re-entrant checkpointing runs its layers so, and nothing would be learned of them."""
    from torch.utils.checkpoint import checkpoint

    class Checkpointed(nn.Module):
        def __init__(self, *, reentrant: bool) -> None:
            super().__init__()
            self.layer, self.reentrant = nn.Linear(12, 8), reentrant

        def forward(self, inputs: dict[str, Tensor]) -> Tensor:
            rows = inputs["rows"].requires_grad_()
            found: Tensor = checkpoint(self._made, rows, use_reentrant=self.reentrant)
            return found

        def _made(self, rows: Tensor) -> Tensor:
            return 2 * self.layer(rows)  # type: ignore[no-any-return]

    for reentrant in (False, True):
        dense = Checkpointed(reentrant=reentrant)
        network = copy.deepcopy(dense)
        n.nest(network, ["layer"])
        inputs = {"rows": ROWS.clone()}
        witness = n.Witness(dense=dense, spreads={"layer": 1.0}, counterparts={"layer": "layer"})
        _, heard = witness.say(inputs)
        if not reentrant:
            n.set_rank(network, 2)
            witness.compared(network, network, inputs, heard)["hints"].backward()
            learned = network.get_parameter("layer.up").grad
            assert learned is not None
            assert learned.abs().sum() > 0
            continue
        with pytest.raises(n.NestedError, match="use_reentrant=False"):
            witness.compared(network, network, inputs, heard)


@pytest.mark.parametrize("rank", [0, 9, True])
def test_a_rank_is_one_of_those_there_are(rank: Any) -> None:
    network = nn.Sequential(nn.Linear(12, 8))
    n.nest(network, ["0"])
    for wanted in (rank, {"0": rank}):
        with pytest.raises(n.RankError, match=r"0: the rank must be in 1\.\.8, got"):
            n.set_rank(network, wanted)
    assert n.ranks(network) == {"0": 8}


def test_a_path_of_ranks_that_no_layer_has_is_refused_when_it_is_attached() -> None:
    network = nn.Sequential(nn.Linear(12, 8))
    n.nest(network, ["0"])
    points = [{"share": 1.0, "rank": 8}, {"share": 0.5, "rank": 0}]
    path = n.NestedPath.from_json({
        "measured_at": "x", "layers": ["0"], "shares": [p["share"] for p in points],
        "ranks": [[p["rank"]] for p in points],
    })  # fmt: skip
    with pytest.raises(n.RankError, match="got 0"):
        n.attach(network, path)


def test_calibration_batches_may_come_from_a_generator() -> None:
    networks = [nn.Sequential(nn.Linear(12, 8)) for _ in range(2)]
    networks[1].load_state_dict(networks[0].state_dict())
    n.nest(networks[0], ["0"], init="whitened", calibration=[ROWS[:20], ROWS[20:]])
    n.nest(networks[1], ["0"], init="whitened", calibration=(r for r in (ROWS[:20], ROWS[20:])))
    for name, tensor in networks[0].state_dict().items():
        torch.testing.assert_close(networks[1].state_dict()[name], tensor, rtol=0, atol=0)


def test_hints_take_whole_numbers_as_a_mask_and_batches_of_no_rows() -> None:
    one, other = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    losses = [
        n.hint_loss({"a": [one]}, {"a": [other]}, {"a": 1.0}, counterparts={"a": "a"}, mask=each)
        for each in (mask, mask.bool())
    ]
    assert losses[0] == losses[1] > 0
    empty = {"a": [torch.zeros(0, 4)]}
    assert n.hint_loss(empty, empty, {"a": 1.0}, counterparts={"a": "a"}) == 0
    with pytest.raises(n.NestedError, match="no layer is called 'b'"):
        n.hint_spreads(nn.Sequential(nn.Linear(12, 8)), ["b"], [(ROWS,)])
