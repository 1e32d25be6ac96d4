"""The objectives against NumPy, against one graph of all ranks, and against what they promise."""

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import Float64
from torch import Tensor, nn

from students.losses import kl
from students.nested.errors import NestedError
from students.nested.objective import NestedObjective, StepFigures, label_loss, soft_loss
from students.nested.recipe import NestedRecipe

RANKS = (5, 3, 2, 1)
ROWS, WIDTH, CLASSES = 17, 6, 4


class Factors(nn.Module):
    """x -> B_r A_r x, the ranks named by their place."""

    def __init__(self, *, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        down, up = (
            torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
            for shape in ((RANKS[0], WIDTH), (CLASSES, RANKS[0]))
        )
        self.down, self.up = nn.Parameter(down), nn.Parameter(up)

    def at(self, inputs: Tensor) -> Callable[[int], Tensor]:
        return lambda place: inputs @ self.down[: RANKS[place]].T @ self.up[:, : RANKS[place]].T


def batch(*, seed: int = 1) -> tuple[Tensor, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(ROWS, WIDTH, generator=generator)
    labels = torch.randint(0, CLASSES, (ROWS,), generator=generator)
    labels[3] = -1  # one row without a label
    teacher = torch.randn(ROWS, CLASSES, generator=generator)
    return inputs, {"labels": labels, "logits": teacher}


def objective(*, log_variances: Sequence[float] = (), **changes: Any) -> NestedObjective:
    made = NestedObjective(NestedRecipe(**changes), count=len(RANKS), steps=100, seed=0)
    if log_variances:
        with torch.no_grad():
            made.log_variances.copy_(torch.tensor(log_variances))
    return made


S = (-0.5, 0.25, 1.0, -1.0)


# --- the paper's, in NumPy ------------------------------------------------------------------------


def softmax(logits: Float64[np.ndarray, "rows classes"]) -> Float64[np.ndarray, "rows classes"]:
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def cross_entropy_and_gradients(
    network: Factors, inputs: Tensor, labels: Tensor, rank: int
) -> tuple[float, dict[str, Any]]:
    """CE of one rank and its gradient in A and B, by hand."""
    down, up, x = (t.detach().double().numpy() for t in (network.down, network.up, inputs))
    known = labels.numpy() >= 0
    x, y = x[known], labels.numpy()[known]
    hidden = x @ down[:rank].T
    chances = softmax(hidden @ up[:, :rank].T)
    ce = -np.log(chances[np.arange(len(y)), y]).mean()
    slope = (chances - np.eye(CLASSES)[y]) / len(y)
    into_down, into_up = np.zeros_like(down), np.zeros_like(up)
    into_up[:, :rank] = slope.T @ hidden
    into_down[:rank] = (slope @ up[:, :rank]).T @ x
    return float(ce), {"down": into_down, "up": into_up}


@pytest.mark.parametrize("weighing", ["uncertainty", "clamped", "equal", "log-sum"])
def test_loss_and_gradients_are_those_of_numpy(weighing: str) -> None:
    network, (inputs, targets) = Factors(), batch()
    learned = weighing in {"uncertainty", "clamped"}
    made = objective(weighing=weighing, sampling="uniform", log_variances=S if learned else ())
    figures = made.step(network.at(inputs), targets, at=0)
    assert [rank.place for rank in figures.ranks] == list(made.places(0))
    assert len(figures.ranks) == 2

    total, expected = 0.0, {"down": np.zeros((5, 6)), "up": np.zeros((4, 5))}
    into_s = np.zeros(len(RANKS))
    for rank in figures.ranks:
        s = S[rank.place]
        ce, gradients = cross_entropy_and_gradients(
            network, inputs, targets["labels"], RANKS[rank.place]
        )
        loss, weight = {
            "uncertainty": (np.exp(-s) * ce + s, np.exp(-s)),
            "clamped": (np.exp(-s) * ce + s, np.exp(-s)),
            "equal": (ce, 1.0),
            "log-sum": (np.log(ce), 1 / ce),
        }[weighing]
        total += loss
        into_s[rank.place] = 1 - np.exp(-s) * ce
        expected = {name: expected[name] + weight * gradients[name] for name in expected}
        assert float(rank.loss) == pytest.approx(ce, rel=1e-5)
        assert float(rank.terms["cross_entropy"]) == pytest.approx(ce, rel=1e-5)
        assert float(rank.weight) == pytest.approx(weight, rel=1e-5)
    assert float(figures.loss) == pytest.approx(total, rel=1e-5)
    for name, gradient in expected.items():
        found = network.get_parameter(name).grad
        assert found is not None
        np.testing.assert_allclose(found.numpy(), gradient, atol=2e-6)
    if learned:
        assert made.log_variances.grad is not None
        np.testing.assert_allclose(made.log_variances.grad.numpy(), into_s, atol=1e-5)
    else:
        assert not list(made.parameters())


def test_where_s_is_best_the_papers_objective_teaches_what_the_sum_of_logs_does() -> None:
    network, (inputs, targets) = Factors(), batch()
    paper, logs = (
        objective(weighing=name, sampling="sandwich") for name in ("uncertainty", "log-sum")
    )
    assert len(paper.places(0)) == 3

    def gradients(of: NestedObjective) -> list[Tensor]:
        network.zero_grad()
        of.step(network.at(inputs), targets, at=0)
        return [p.grad.clone() for p in network.parameters() if p.grad is not None]

    # s alone is learned until it is best, which no one told it
    descent = torch.optim.SGD([paper.log_variances], lr=0.5)
    for _ in range(200):
        descent.zero_grad()
        figures = paper.step(network.at(inputs), targets, at=0)
        descent.step()
    for rank in figures.ranks:
        assert float(rank.weight) == pytest.approx(1 / float(rank.loss), rel=1e-5)
    found, expected = gradients(paper), gradients(logs)
    assert len(found) == 2
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    # before that it taught something else
    with torch.no_grad():
        paper.log_variances.zero_()
    assert not torch.allclose(gradients(paper)[0], expected[0], rtol=0.1)


def test_the_anchors_weight_explodes_once_it_knows_its_rows_unless_it_is_clamped() -> None:
    weights = {}
    for weighing in ("uncertainty", "clamped"):
        made = objective(weighing=weighing, sampling="uniform")
        descent = torch.optim.SGD(made.parameters(), lr=0.1)
        for at in range(300):
            descent.zero_grad()
            figures = made.step(
                lambda _: 30.0 * torch.eye(CLASSES), {"labels": torch.arange(CLASSES)}, at=at
            )
            descent.step()
        weights[weighing] = float(figures.ranks[0].weight)
    assert weights["uncertainty"] > 1e6
    assert weights["clamped"] == pytest.approx(np.e, rel=1e-5)


def test_a_clamped_s_comes_back_when_the_loss_rises_again() -> None:
    made = objective(weighing="clamped", log_variances=(-9.0, 9.0, 0.0, 0.0), sampling="uniform")
    inputs, targets = batch()
    made.step(Factors().at(inputs), targets, at=0)
    assert made.log_variances.detach().tolist() == [-1.0, 1.0, 0.0, 0.0]
    # CE of about 1 draws s from -1 up
    assert made.log_variances.grad is not None
    assert float(made.log_variances.grad[0]) < -0.5


def test_a_row_known_by_heart_has_a_log_and_no_gradient() -> None:
    made = objective(weighing="log-sum", sampling="uniform")
    logits = (200.0 * torch.eye(CLASSES)).requires_grad_()
    figures = made.step(lambda _: logits * 1.0, {"labels": torch.arange(CLASSES)}, at=0)
    assert torch.isfinite(figures.loss)
    assert logits.grad is not None
    assert not logits.grad.any()


# --- distillation ---------------------------------------------------------------------------------


def test_variants_learn_from_the_anchor_and_the_anchor_not_from_them() -> None:
    network, (inputs, targets) = Factors(), batch()
    made = objective(
        weighing="equal", distill="anchor", temperature=2.0, kl_weight=0.5, ce_weight=0.25,
        sampling="sandwich",
    )  # fmt: skip
    figures = made.step(network.at(inputs), targets, at=2)
    found = [p.grad.clone() for p in network.parameters() if p.grad is not None]
    assert [sorted(rank.terms) for rank in figures.ranks] == [
        ["cross_entropy"],
        ["cross_entropy", "kl"],
        ["cross_entropy", "kl"],
    ]

    network.zero_grad()
    logits = {place: network.at(inputs)(place) for place in made.places(2)}
    loss = sum(
        (0.25 * label_loss(at, targets["labels"]) for at in logits.values()), torch.zeros(())
    )
    for place in made.places(2)[1:]:
        loss = loss + 0.5 * kl(logits[place], logits[0].detach(), 2.0)
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(figures.loss) == pytest.approx(loss.item(), rel=1e-5)
    for one, parameter in zip(found, network.parameters(), strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(one, parameter.grad)


def test_every_rank_learns_from_the_dense_networks_logits() -> None:
    network, (inputs, targets) = Factors(), batch()
    made = objective(
        weighing="uncertainty", distill="dense", ce_weight=0.0, kl_weight=2.0, temperature=3.0,
        log_variances=S,
    )  # fmt: skip
    del targets["labels"]  # nobody asks for them
    figures = made.step(network.at(inputs), targets, at=0)
    total = 0.0
    for rank in figures.ranks:
        with torch.no_grad():
            divergence = float(kl(network.at(inputs)(rank.place), targets["logits"], 3.0))
        assert float(rank.terms["kl"]) == pytest.approx(divergence, rel=1e-5)
        total += np.exp(-S[rank.place]) * 2 * divergence + S[rank.place]
    assert float(figures.loss) == pytest.approx(total, rel=1e-5)


def test_stored_features_are_matched_by_squares_over_their_scale() -> None:
    rows, aims = torch.tensor([[1.0, 2.0], [0.0, -1.0]]), torch.tensor([[3.0, 4.0], [0.0, 3.0]])
    # (4 + 4 + 0 + 16) / 4 = 6
    alone = objective(weighing="equal", ce_weight=0.0, target_weight=3.0, scale=2.0)
    given = {"targets": aims}
    call = given_back(rows)
    assert float(alone.step(call, given, at=0).loss) == pytest.approx(2 * 3 * 6 / 4)
    both = objective(weighing="equal", ce_weight=0.5, target_weight=3.0, scale=2.0)
    given["labels"] = torch.tensor([1, 0])
    call = given_back({"rows": rows, "logits": aims})
    ce = float(label_loss(aims, given["labels"]))
    assert float(both.step(call, given, at=0).loss) == pytest.approx(2 * (3 * 6 / 4 + ce / 2))
    with pytest.raises(
        NestedError, match="more than one of rows, logits and hints is to be learned"
    ):
        both.step(given_back(rows), given, at=0)
    with pytest.raises(NestedError, match=r"logits are to be learned, .* gives \['rows'\]"):
        both.step(given_back({"rows": rows}), given, at=0)
    with pytest.raises(
        NestedError, match=r"targets are to be learned, and the batch has \['labels'\]"
    ):
        alone.step(given_back(rows), {"labels": given["labels"]}, at=0)
    with pytest.raises(
        NestedError, match=r"rows of shape \(2, 1\), and their targets have \(2, 2\)"
    ):
        alone.step(given_back(rows[:, :1]), given, at=0)


def given_back(outputs: Any) -> Callable[[int], Any]:
    """A network of no work, whose gradient goes nowhere."""
    if isinstance(outputs, dict):
        return lambda _: {name: part.clone().requires_grad_() for name, part in outputs.items()}
    return lambda _: outputs.clone().requires_grad_()


def test_texts_count_the_positions_that_have_a_label_and_those_of_the_mask() -> None:
    generator = torch.Generator().manual_seed(4)
    logits, aims = (torch.randn(2, 3, 5, generator=generator) for _ in range(2))
    labels = torch.tensor([[1, 4, -100], [0, -100, -100]])
    kept = [(0, 0), (0, 1), (1, 0)]
    chances = softmax(np.stack([logits[at].double().numpy() for at in kept]))
    expected = -np.log(chances[range(3), [1, 4, 0]]).mean()
    assert float(label_loss(logits, labels)) == pytest.approx(expected, rel=1e-5)
    mask = torch.tensor([[True, True, False], [True, False, False]])
    few = [torch.stack([x[at] for at in kept]) for x in (logits, aims)]
    masked = float(soft_loss(logits, aims, mask, temperature=2.0))
    assert masked == pytest.approx(float(kl(few[0], few[1], 2.0)), rel=1e-5)
    everything = float(soft_loss(logits, aims, None, temperature=2.0))
    assert everything == pytest.approx(float(kl(logits.view(6, 5), aims.view(6, 5), 2.0)), rel=1e-5)
    assert everything != pytest.approx(masked, rel=1e-2)
    made = objective(weighing="equal", distill="dense", temperature=2.0)
    given = {"labels": labels, "logits": aims, "mask": mask}
    figures = made.step(given_back(logits), given, at=0)
    assert float(figures.loss) == pytest.approx(2 * (expected + masked), rel=1e-5)


# --- how a step is made ---------------------------------------------------------------------------


def test_the_graph_of_a_rank_is_gone_before_the_next_one_runs() -> None:
    network, (inputs, targets) = Factors(), batch()
    seen: list[Any] = []

    def call(place: int) -> dict[str, Tensor]:
        assert all(before() is None for before in seen), "logits of another rank are still held"
        logits = network.at(inputs)(place)
        seen.append(weakref.ref(logits))
        return {"logits": logits}

    objective(sampling="sandwich").step(call, targets, at=0)
    assert len(seen) == 3


@pytest.mark.parametrize("weighing", ["uncertainty", "clamped", "equal"])
def test_parts_of_a_batch_add_up_to_the_whole(weighing: str) -> None:
    network, (inputs, targets) = Factors(), batch()
    targets["labels"][3] = 0
    made = objective(weighing=weighing, distill="dense")
    figures = made.step(network.at(inputs), targets, at=3)
    whole = [p.grad.clone() for p in (*network.parameters(), *made.parameters())]  # type: ignore[union-attr]
    network.zero_grad()
    made.zero_grad()
    total = 0.0
    for part in (slice(0, 12), slice(12, None)):
        share = len(inputs[part]) / ROWS
        cut = {name: tensor[part] for name, tensor in targets.items()}
        scaled = scaled_backward(share)
        total += share * float(made.step(network.at(inputs[part]), cut, at=3, backward=scaled).loss)
    assert total == pytest.approx(float(figures.loss), rel=1e-5)
    for one, parameter in zip(whole, (*network.parameters(), *made.parameters()), strict=True):
        torch.testing.assert_close(parameter.grad, one)


def scaled_backward(share: float) -> Callable[[Tensor], None]:
    return lambda loss: (share * loss).backward()  # type: ignore[no-untyped-call]


def test_half_precision_logits_are_weighed_in_float32() -> None:
    inputs, targets = batch()
    network = Factors(dtype=torch.bfloat16)
    figures = objective().step(network.at(inputs.bfloat16()), targets, at=0)
    assert figures.loss.dtype == torch.float32


def test_steps_teach_all_ranks_and_start_again_where_they_were_left() -> None:
    inputs, targets = batch()
    targets["labels"] = (
        inputs @ torch.randn(WIDTH, CLASSES, generator=torch.Generator().manual_seed(9))
    ).argmax(1)

    def train(network: Factors, made: NestedObjective, descent: Any, steps: range) -> StepFigures:
        for at in steps:
            descent.zero_grad()
            figures = made.step(network.at(inputs), targets, at=at)
            descent.step()
        return figures

    def fresh() -> tuple[Factors, NestedObjective, Any]:
        network, made = Factors(), objective(weighing="clamped", distill="anchor")
        learned = [*network.parameters(), *made.parameters()]
        return network, made, torch.optim.SGD(learned, lr=0.05)

    network, made, descent = fresh()
    before = [label_loss(network.at(inputs)(place), targets["labels"]).item() for place in range(4)]
    train(network, made, descent, range(100))
    after = [label_loss(network.at(inputs)(place), targets["labels"]).item() for place in range(4)]
    assert all(new < 0.8 * old for new, old in zip(after, before, strict=True))

    again, other, second = fresh()
    train(again, other, second, range(40))
    resumed, third, last = fresh()
    resumed.load_state_dict(again.state_dict())
    third.load_state_dict(other.state_dict())
    train(resumed, third, last, range(40, 100))
    for one, parameter in zip(network.parameters(), resumed.parameters(), strict=True):
        torch.testing.assert_close(one, parameter, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"weighing": "uncertanty"},
            "no weighing of ranks named 'uncertanty'; did you mean 'uncer",
        ),
        ({"distill": "densely"}, "no distillation of ranks named 'densely'; did you mean 'dense'"),
        ({"sampling": "sandwitch"}, "no sampling of ranks named 'sandwitch'"),
        ({"over": 0.0}, "ranks widen over a share"),
        ({"temperature": 0.0}, "temperature and scale must be above 0, got 0.0 and 1.0"),
        ({"scale": -1.0}, "temperature and scale must be above 0, got 1.0 and -1.0"),
        ({"kl_weight": -0.5}, r"must not be below 0, got \(1.0, -0.5, 0.0, 0.0\)"),
        ({"lowest": 1.0}, "s is clamped to a range, got 1.0 to 1.0"),
        ({"ce_weight": 0.0}, "the anchor has nothing to learn from"),
        ({"ce_weight": 0.0, "distill": "anchor"}, "the anchor has nothing to learn from"),
        ({"ce_weight": 0.0, "distill": "dense", "kl_weight": 0.0}, "nothing to learn from"),
    ],
)
def test_a_recipe_that_cannot_be_followed_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(NestedError, match=said):
        NestedRecipe(**changes)
