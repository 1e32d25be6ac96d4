"""Hints: the loss by hand, what is heard and what is not, and a training that learns from them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

from students.nested import (
    CalibrationError,
    Learning,
    NestedError,
    NestedObjective,
    NestedRecipe,
    RankPasses,
    Witness,
    hint_loss,
    hint_spreads,
    nest,
    set_rank,
)
from students.nested.hints import hearing
from students.nested.rivals import first_half, half_of

SETTINGS = (8, 4, 1)
LAYERS = ("first", "second")
PARTS = ("weight", "bias")


class Plain(nn.Module):
    """Three linear layers over tokens, and their mean."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 12), nn.Linear(12, 8)
        self.last = nn.Linear(8, 3)

    def forward(self, prepared: Mapping[str, Tensor]) -> Tensor:
        rows = self.second(torch.tanh(self.first(prepared["rows"])))
        found: Tensor = self.last(torch.tanh(rows).mean(dim=1))
        return found


def plain() -> Plain:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Plain()


def batch(rows: int = 6) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    mask = torch.ones(rows, 5, dtype=torch.int64)
    mask[0, 3:] = 0
    return {"rows": torch.randn(rows, 5, 8, generator=generator), "attention_mask": mask}


def outputs(network: nn.Module, inputs: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """By the layers' own products."""
    rows = inputs["rows"].numpy().astype(np.float64)
    first, second = (
        [network.get_parameter(f"{name}.{part}").detach().double().numpy() for part in PARTS]
        for name in LAYERS
    )
    middle = rows @ first[0].T + first[1]
    return {"first": middle, "second": np.tanh(middle) @ second[0].T + second[1]}


# --- the loss -------------------------------------------------------------------------------------


def test_the_spread_is_the_variance_of_what_the_mask_does_not_hide() -> None:
    network, inputs = plain(), batch()
    kept = inputs["attention_mask"].bool().numpy()
    found = hint_spreads(network, LAYERS, [(inputs,), (batch(3),)])
    for name in LAYERS:
        rows = np.concatenate(
            [outputs(network, inputs)[name][kept], outputs(network, batch(3))[name][_mask(3)]]
        )
        assert found[name] == pytest.approx(rows.var(axis=0).mean(), rel=1e-5)


def _mask(rows: int) -> np.ndarray:
    return batch(rows)["attention_mask"].bool().numpy()


def test_a_convolution_is_spread_about_the_mean_of_each_channel() -> None:
    convolution = nn.Conv2d(3, 4, 3)
    with torch.no_grad():
        convolution.get_parameter("bias").copy_(torch.tensor([100.0, 0.0, -50.0, 7.0]))
    network, images = nn.Sequential(convolution), torch.randn(5, 3, 6, 6)
    given = convolution(images).detach().double().movedim(1, -1).reshape(-1, 4).numpy()
    found = hint_spreads(network, ["0"], [images])
    assert found["0"] == pytest.approx(given.var(axis=0).mean(), rel=1e-4)


def test_the_loss_is_the_mean_of_squares_over_the_spread_by_hand() -> None:
    """(1² + 3²) / 2 / 2 = 2.5 of the one layer, 4² / 8 = 2 of the other."""
    found = {"a": [torch.tensor([[1.0, 0.0]])], "z": [torch.tensor([[4.0]])]}
    wanted = {"a": [torch.tensor([[0.0, 3.0]])], "b": [torch.tensor([[0.0]])]}
    loss = hint_loss(found, wanted, {"a": 2.0, "b": 8.0}, counterparts={"a": "a", "b": "z"})
    assert float(loss) == pytest.approx((2.5 + 2.0) / 2)


@pytest.mark.parametrize("flat", [False, True], ids=["tokens", "flattened"])
def test_padded_tokens_have_no_say_in_the_loss(flat: bool) -> None:
    mask = batch()["attention_mask"].bool()
    given = torch.randn(6, 5, 2)
    wild = torch.where(mask[..., None], given + 2.0, torch.tensor(1e6))
    if flat:
        given, wild = given.reshape(-1, 2), wild.reshape(-1, 2)
    loss = hint_loss({"a": [wild]}, {"a": [given]}, {"a": 1.0}, counterparts={"a": "a"}, mask=mask)
    assert float(loss) == pytest.approx(4.0, rel=1e-5)


def test_outputs_of_rows_count_whole_beside_a_mask_of_tokens() -> None:
    mask = batch()["attention_mask"].bool()
    loss = hint_loss(
        {"a": [torch.ones(6, 5)]}, {"a": [torch.zeros(6, 5)]}, {"a": 1.0},
        counterparts={"a": "a"}, mask=mask,
    )  # fmt: skip
    assert float(loss) == pytest.approx(1.0)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_its_gradient_is_that_of_the_formula_as_autograd_takes_it(kind: torch.dtype) -> None:
    """Of tokens, of tokens in one row, and of rows that have none; padding may hold NaN."""
    mask = torch.arange(7)[None] < torch.tensor([2, 7, 4])[:, None]
    shapes = {"tokens": (3, 7, 5), "flat": (21, 4), "rows": (3, 6)}
    spreads = {"tokens": 2.0, "flat": 0.5, "rows": 3.0}
    one = {n: torch.randn(s, dtype=kind).requires_grad_() for n, s in shapes.items()}
    other = {n: torch.randn(s, dtype=kind) for n, s in shapes.items()}
    other["tokens"][~mask] = torch.nan
    pairs = {name: name for name in shapes}
    loss = hint_loss(
        {n: [x] for n, x in one.items()}, {n: [x] for n, x in other.items()}, spreads,
        counterparts=pairs, mask=mask,
    )  # fmt: skip
    (3 * loss).backward()  # type: ignore[no-untyped-call]

    terms = []
    for name, x in one.items():
        squares = (x.float() - other[name].float()).square()
        if name != "rows":
            kept = squares.mean(dim=-1).reshape(3, 7).where(mask, torch.tensor(0.0))
            squares = kept.sum(dim=1) / mask.sum(dim=1)
        terms.append(squares.mean() / spreads[name])
    plain = torch.stack(terms).mean()
    torch.testing.assert_close(loss, plain)
    for name, x in one.items():
        (wanted,) = torch.autograd.grad(3 * plain, x, retain_graph=True)
        assert x.grad is not None
        assert x.grad.dtype == kind
        found = x.grad
        if name == "tokens":  # autograd passes NaN times 0 on, which must not reach a weight
            assert found[~mask].eq(0).all()
            found, wanted = found[mask], wanted[mask]
        torch.testing.assert_close(
            found, wanted, rtol=1e-2 if kind == torch.bfloat16 else 1e-5, atol=1e-6
        )


def test_a_network_loses_nothing_to_itself_and_more_the_lower_its_rank() -> None:
    dense, inputs = plain(), batch(40)
    spreads = hint_spreads(dense, LAYERS, [(inputs,)])
    network = plain()
    nest(network, include=list(LAYERS), init="whitened", calibration=[(inputs,)])
    witness = Witness(dense=dense, spreads=spreads, counterparts={n: n for n in LAYERS})
    losses = []
    for rank in SETTINGS:
        set_rank(network, rank)
        _, heard = witness.say(inputs)
        losses.append(witness.compared(network, network, inputs, heard)["hints"].item())
    assert losses[0] == pytest.approx(0.0, abs=1e-9)
    assert losses[0] < losses[1] < losses[2] < 1.0


@pytest.mark.parametrize("flat", [False, True], ids=["tokens", "flattened"])
def test_parts_of_a_batch_add_up_to_it(flat: bool) -> None:
    """Rows of two tokens in one part and of ten in the other."""
    mask = torch.zeros(4, 10, dtype=torch.bool)
    mask[:2, :2], mask[2:] = True, True
    one, other = torch.randn(4, 10, 3), torch.randn(4, 10, 3)

    def loss(rows: slice) -> Tensor:
        given = [x[rows].reshape(-1, 3) if flat else x[rows] for x in (one, other)]
        return hint_loss(
            {"a": given[:1]}, {"a": given[1:]}, {"a": 2.0}, counterparts={"a": "a"}, mask=mask[rows]
        )

    parts = (loss(slice(0, 2)) + loss(slice(2, 4))) / 2
    torch.testing.assert_close(parts, loss(slice(0, 4)))


def test_a_layer_that_is_called_twice_counts_once() -> None:
    """(2² + 4²) / 2 = 10 of the one, 1 of the other."""
    found = {"a": [torch.full((1, 1), 2.0), torch.full((1, 1), 4.0)], "b": [torch.ones(1, 1)]}
    wanted = {"a": [torch.zeros(1, 1), torch.zeros(1, 1)], "b": [torch.zeros(1, 1)]}
    loss = hint_loss(found, wanted, {"a": 1.0, "b": 1.0}, counterparts={"a": "a", "b": "b"})
    assert float(loss) == pytest.approx((10 + 1) / 2)


@pytest.mark.parametrize("inside", [True, False])
def test_what_is_written_over_is_heard_as_it_was(inside: bool) -> None:
    network = nn.Sequential(nn.Linear(4, 5), nn.ReLU(inplace=inside), nn.Linear(5, 2))
    rows = torch.randn(64, 4)
    with hearing(network, ["0"]) as heard:
        network(rows)
    torch.testing.assert_close(heard["0"][0], network[0](rows))
    given = network[0](rows).detach().double().numpy()
    found = hint_spreads(network, ["0"], [rows])["0"]
    assert found == pytest.approx(given.var(axis=0).mean(), rel=1e-5)


def test_what_is_written_over_by_who_does_not_say_so_is_refused() -> None:
    class Over(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 5)

        def forward(self, rows: Tensor) -> Tensor:
            found: Tensor = self.layer(rows).relu_()
            return found

    network = Over()
    said = "what layer gives is written over by what reads it"
    with pytest.raises(NestedError, match=said), hearing(network, ["layer"]):
        network(torch.randn(3, 4))


# --- a step ---------------------------------------------------------------------------------------


def _learning(**changes: Any) -> Learning:
    network = plain()
    nest(network, include=list(LAYERS))
    told: dict[str, Any] = {"weighing": "equal", "sampling": "sandwich", "hint_weight": 3.0}
    objective = NestedObjective(NestedRecipe(**(told | changes)), count=3, steps=9, seed=1)
    return Learning(network, objective)


def _witness() -> Witness:
    dense = plain().requires_grad_(False)
    spreads = hint_spreads(dense, LAYERS, [(batch(20),)])
    return Witness(dense=dense, spreads=spreads, counterparts={n: n for n in LAYERS})


def _backward(loss: Tensor) -> None:
    loss.backward()  # type: ignore[no-untyped-call]


def test_the_gradient_is_that_of_labels_and_of_three_times_the_hints() -> None:
    """Of every rank drawn; by the layers' own outputs, without hooks."""
    one, witness, inputs = _learning(), _witness(), batch()
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    told: list[tuple[int, int, Mapping[str, float]]] = []
    passes = RankPasses(one, SETTINGS, witness=witness, on_figures=lambda *seen: told.append(seen))
    found = passes.gradient(one, inputs, {"labels": labels}, at=4, backward=_backward)
    gradient = [p.grad.clone() for p in one.network.parameters() if p.grad is not None]
    one.zero_grad()
    kept, total = inputs["attention_mask"].bool(), torch.zeros(())
    dense: Any = witness.dense
    network: Any = one.network
    for rank in SETTINGS:
        set_rank(network, rank)
        aim = dense.first(inputs["rows"])
        first = network.first(inputs["rows"])
        second = network.second(torch.tanh(first))
        aims = {"first": aim, "second": dense.second(torch.tanh(aim))}
        hints = torch.zeros(())
        for name, given in (("first", first), ("second", second)):
            of_rows = [
                (given[row] - aims[name][row])[kept[row]].square().mean() for row in range(6)
            ]
            hints = hints + torch.stack(of_rows).mean() / witness.spreads[name]
        logits = network.last(torch.tanh(second).mean(dim=1))
        loss = nn.functional.cross_entropy(logits, labels) + 3.0 * hints / 2
        _backward(loss)
        total += loss.detach()
    torch.testing.assert_close(found, total)
    plainly = [p.grad for p in one.network.parameters() if p.grad is not None]
    torch.testing.assert_close(gradient, plainly)
    assert [(at, place) for at, place, _ in told] == [(4, 0), (4, 1), (4, 2)]
    for _, _, figures in told:
        assert sorted(figures) == ["cross_entropy", "hints", "loss", "weight"]
        both = figures["cross_entropy"] + 3.0 * figures["hints"]
        assert figures["loss"] == pytest.approx(both, rel=1e-5)
    assert not any(module._forward_hooks for module in one.modules())
    assert not any(module._forward_hooks for module in dense.modules())


def test_hints_alone_bring_a_low_rank_nearer_to_the_dense_network() -> None:
    """Without a label and without a logit."""
    one, witness, inputs = _learning(ce_weight=0.0), _witness(), batch(64)
    passes = RankPasses(one, SETTINGS, witness=witness)
    optimizer = torch.optim.Adam(one.network.parameters(), lr=0.01)

    def distance() -> float:
        set_rank(one.network, 4)
        with torch.no_grad():
            return float((one.network(inputs) - witness.dense(inputs)).square().mean())

    before = distance()
    for step in range(40):
        optimizer.zero_grad()
        passes.gradient(one, inputs, {}, at=step, backward=_backward)
        optimizer.step()
    assert distance() < before / 2


def test_a_network_of_parts_by_name_has_its_hints_beside_them() -> None:
    witness, inputs = _witness(), batch()
    _, heard = witness.say(inputs)
    network = plain()

    def forward(prepared: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"logits": network(prepared), "rows": prepared["rows"]}

    found = witness.compared(network, forward, inputs, heard)
    assert sorted(found) == ["hints", "logits", "rows"]
    assert found["hints"].item() == 0.0


# --- what is refused ------------------------------------------------------------------------------


def test_a_layer_that_is_not_there_is_named() -> None:
    said = "no layer is called 'third'"
    with pytest.raises(NestedError, match=said), hearing(plain(), ["third"]):
        pass


def test_a_compiled_network_that_is_not_heard_is_refused() -> None:
    """As of a graph made before: its layers' own calls never happen."""
    one, witness, inputs = _learning(), _witness(), batch()
    logits = one(inputs).detach()
    with pytest.raises(NestedError, match=r"first gave nothing and first of the dense network \("):
        RankPasses(one, SETTINGS, witness=witness).gradient(
            lambda _: logits, inputs, {"labels": torch.zeros(6).long()}, at=0, backward=_backward
        )
    assert not any(module._forward_hooks for module in one.modules())


def test_hints_of_no_layer_are_refused() -> None:
    with pytest.raises(NestedError, match="there is no layer to learn them"):
        hint_loss({}, {}, {}, counterparts={})


def test_one_tensor_cannot_be_logits_and_hints() -> None:
    one = _learning()
    with pytest.raises(NestedError, match="more than one of rows, logits and hints"):
        RankPasses(one, SETTINGS).gradient(
            one, batch(), {"labels": torch.zeros(6).long()}, at=0, backward=_backward
        )


def test_a_layer_that_gives_nan_is_named() -> None:
    network = plain()
    with torch.no_grad():
        network.second.weight.fill_(float("nan"))
    with pytest.raises(CalibrationError, match="second: NaN or infinity among what it gives"):
        hint_spreads(network, LAYERS, [(batch(),)])


def test_layers_that_say_nothing_are_left_out() -> None:
    """One that always gives the same (token types of single texts), one that nothing reaches."""
    network = plain()
    with torch.no_grad():
        network.second.weight.zero_()
    network.spare = nn.Linear(2, 2)
    found = hint_spreads(network, [*LAYERS, "spare"], [(batch(),)])
    assert found.keys() == {"first"}
    with pytest.raises(CalibrationError, match="every layer gives the same"):
        hint_spreads(network, ["second", "spare"], [(batch(),)])


def test_no_batches_are_refused() -> None:
    with pytest.raises(CalibrationError, match="there are no calibration batches"):
        hint_spreads(plain(), LAYERS, [])


def test_a_weight_below_zero_is_refused() -> None:
    with pytest.raises(NestedError, match="weights of losses must not be below 0"):
        NestedRecipe(hint_weight=-1.0)


# --- half of the layers ---------------------------------------------------------------------------


class Deep(nn.Module):
    """A stem and a list of blocks; the first block may be wider inside."""

    def __init__(self, blocks: int, *, first: int = 4) -> None:
        super().__init__()
        self.stem = nn.Linear(3, 3)
        inner = [first, *[4] * (blocks - 1)]
        self.blocks = nn.Sequential(
            *(nn.Sequential(nn.Linear(3, width), nn.Linear(width, 3)) for width in inner)
        )
        self.blocksmith = nn.Linear(3, 2)

    def forward(self, rows: Tensor) -> Tensor:
        found: Tensor = self.blocksmith(self.blocks(self.stem(rows)))
        return found


@pytest.mark.parametrize(
    ("blocks", "pairs"),
    [(4, {1: 0, 3: 1}), (5, {0: 0, 2: 1, 4: 2}), (6, {1: 0, 3: 1, 5: 2})],
)
def test_kept_blocks_stand_for_those_up_to_their_own(blocks: int, pairs: dict[int, int]) -> None:
    network = Deep(blocks)
    found = half_of(network, torch.randn(2, 3))
    inner = {
        f"blocks.{whole}.{layer}": f"blocks.{half}.{layer}"
        for whole, half in pairs.items()
        for layer in (0, 1)
    }
    assert found == {"stem": "stem", **inner, "blocksmith": "blocksmith"}
    kept = [own for own, _ in first_half(network)[0].get_submodule("blocks").named_children()]
    assert kept == [str(half) for half in pairs.values()]


def test_half_of_a_gpt_2_is_heard() -> None:
    """Its weights are kept turned, in layers of transformers' own."""
    sizes = {"vocab_size": 11, "n_positions": 8, "n_embd": 12, "n_layer": 4, "n_head": 2}
    config = GPT2Config(**sizes, bos_token_id=0, eos_token_id=0)
    network = GPT2LMHeadModel(config).eval()
    layers = [f"mlp.{name}" for name in ("c_fc", "c_proj")]
    found = half_of(network, {"input_ids": torch.arange(8)[None]})
    for layer in layers:
        assert found[f"transformer.h.3.{layer}"] == f"transformer.h.1.{layer}"
        assert f"transformer.h.2.{layer}" not in found


def test_layers_of_another_shape_have_no_counterpart() -> None:
    found = half_of(Deep(4, first=5), torch.randn(2, 3))
    assert "blocks.1.0" not in found
    assert found["blocks.1.1"] == "blocks.0.1"
