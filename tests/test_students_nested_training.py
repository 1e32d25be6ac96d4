"""Training nested networks: every rank learns, and a training that broke off ends as it would."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from students import Evaluation, FitResult, Recipe, evaluate_logits, fit, forward_rows
from students.nested import (
    Learning,
    NestedError,
    NestedObjective,
    NestedRecipe,
    RankPasses,
    Witness,
    evaluate_ranks,
    nest,
    ranks,
    set_rank,
)
from students.steps import make_optimizer
from tests.training_examples import CLASSES, data, recipe

SETTINGS = (8, 4, 1)
STEPS = 8  # of an epoch


class Plain(nn.Module):
    """Two linear layers; the first is nested."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(75, 8)
        self.last = nn.Linear(8, CLASSES)

    def forward(self, prepared: Mapping[str, Tensor]) -> Tensor:
        rows: Tensor = self.last(torch.tanh(self.first(prepared["pixel_values"].flatten(1))))
        return rows


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        plain = Plain()
    nest(plain, include=["first"])
    return plain


def learning(**changes: Any) -> Learning:
    settings: dict[str, Any] = {"weighing": "clamped", "sampling": "sandwich"}
    objective = NestedObjective(
        NestedRecipe(**(settings | changes)), count=3, steps=3 * STEPS, seed=1
    )
    return Learning(network(), objective)


def train(folder: Path, one: Learning, **changes: Any) -> FitResult:
    feed, labels = data()

    def evaluate(module: nn.Module) -> Evaluation:
        return evaluate_logits(forward_rows(module, feed), labels)

    named = {str(rank): rank for rank in SETTINGS}
    told: dict[str, Any] = {
        "feed": feed,
        "loss": RankPasses(one, SETTINGS),
        "evaluate": lambda _: evaluate_ranks(one.network, named, evaluate),
        "recipe": recipe(),
        "folder": folder,
    }
    return fit(one, **(told | changes))


def test_every_rank_learns_and_is_validated_by_its_name(tmp_path: Path) -> None:
    one = learning()
    result = train(tmp_path, one, recipe=recipe(epochs=12, learning_rate=0.03))
    first, last = result.history[0], result.history[-1]
    for rank in SETTINGS:
        assert last[f"loss@{rank}"] < first[f"loss@{rank}"]
    assert last["accuracy@8"] > 0.9
    mean = sum(last[f"accuracy@{rank}"] for rank in SETTINGS) / 3
    assert last["validation_accuracy"] == pytest.approx(mean)
    assert ranks(one.network) == {"first": 8}


def test_the_gradient_is_that_of_the_ranks_drawn(tmp_path: Path) -> None:
    """Equal weights, sandwich of three settings: the sum of three plain losses."""
    del tmp_path
    one, (feed, _) = learning(weighing="equal"), data()
    batch = next(feed.batches([torch.arange(20).numpy()]))
    told: list[tuple[int, int, Mapping[str, float]]] = []
    passes = RankPasses(one, SETTINGS, on_figures=lambda *seen: told.append(seen))
    found = passes.gradient(one, batch.inputs, batch.targets, at=5, backward=_backward)
    gradient = [p.grad.clone() for p in one.network.parameters() if p.grad is not None]
    one.zero_grad()
    total = torch.zeros(())
    for rank in SETTINGS:
        set_rank(one.network, rank)
        loss = nn.functional.cross_entropy(one(batch.inputs), batch.targets["labels"])
        loss.backward()  # type: ignore[no-untyped-call]
        total += loss.detach()
    torch.testing.assert_close(found, total)
    plain = [p.grad for p in one.network.parameters() if p.grad is not None]
    torch.testing.assert_close(gradient, plain)
    assert [(at, place) for at, place, _ in told] == [(5, 0), (5, 1), (5, 2)]
    assert sum(figures["loss"] for _, _, figures in told) == pytest.approx(float(total))
    assert [figures["weight"] for _, _, figures in told] == [1.0, 1.0, 1.0]


def test_the_dense_network_is_asked_of_the_batch_as_if_its_logits_were_a_target() -> None:
    one, (feed, _) = learning(distill="dense", temperature=2.0), data()
    batch = next(feed.batches([torch.arange(20).numpy()]))
    dense = Plain()
    with torch.no_grad():
        logits = dense(batch.inputs)
    found = []
    for beside, targets in (
        (None, {**batch.targets, "logits": logits}),
        (Witness(dense=dense), batch.targets),
    ):
        one.zero_grad()
        passes = RankPasses(one, SETTINGS, witness=beside)
        loss = passes.gradient(one, batch.inputs, targets, at=5, backward=_backward)
        found.append((loss, [p.grad.clone() for p in one.parameters() if p.grad is not None]))
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)
    assert all(parameter.grad is None for parameter in dense.parameters())
    assert "logits" not in batch.targets  # what was given stays as it was


def test_the_dense_network_computes_in_the_precision_of_the_step_and_says_float32() -> None:
    feed, _ = data()
    batch = next(feed.batches([torch.arange(20).numpy()]))
    dense, inside = Plain(), set()
    dense.register_forward_hook(lambda _m, _i, logits: inside.add(logits.dtype))
    said = {}
    for precision in ("float32", "bfloat16"):
        said[precision], _ = Witness(dense=dense, precision=precision).say(batch.inputs)
        assert said[precision].dtype == torch.float32
    assert inside == {torch.float32, torch.bfloat16}
    torch.testing.assert_close(said["bfloat16"], said["float32"], rtol=0.02, atol=0.02)
    assert not torch.equal(said["bfloat16"], said["float32"])


def test_a_training_that_broke_off_ends_with_the_same_weights(tmp_path: Path) -> None:
    whole = learning(sampling="widening")
    train(tmp_path / "whole", whole)

    class Stopped(Exception):  # noqa: N818 - stands for a kill
        pass

    def stop(entry: dict[str, Any]) -> None:
        if entry["epoch"] == 2:
            raise Stopped

    broken = learning(sampling="widening")
    with pytest.raises(Stopped):
        train(tmp_path / "broken", broken, on_epoch=stop)
    again = learning(sampling="widening")
    assert train(tmp_path / "broken", again).resumed
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    assert not torch.equal(whole.objective.log_variances, torch.zeros(3))


def test_a_pass_that_fails_leaves_the_network_at_its_anchor() -> None:
    one, (feed, _) = learning(), data()
    batch = next(feed.batches([torch.arange(4).numpy()]))

    def failing(inputs: Any) -> Any:
        if ranks(one.network)["first"] == 1:
            raise RuntimeError("no memory")
        return one(inputs)

    with pytest.raises(RuntimeError, match="no memory"):
        RankPasses(one, SETTINGS).gradient(
            failing, batch.inputs, batch.targets, at=0, backward=_backward
        )
    assert ranks(one.network) == {"first": 8}


def test_ranks_are_given_back_after_validation() -> None:
    one = learning()
    set_rank(one.network, 4)
    seen: list[int] = []

    def evaluate(module: nn.Module) -> Evaluation:
        seen.append(ranks(module)["first"])
        return Evaluation(accuracy=len(seen) / 4, loss=3.0 * len(seen))

    found = evaluate_ranks(one.network, {"high": 8, "low": {"first": 1}}, evaluate)
    assert seen == [8, 1]
    assert ranks(one.network) == {"first": 4}
    assert found.measures == {
        "accuracy@high": 0.25, "loss@high": 3.0, "accuracy@low": 0.5, "loss@low": 6.0
    }  # fmt: skip
    assert found.accuracy == pytest.approx(0.375)
    assert found.loss == pytest.approx(4.5)


def test_settings_and_objective_must_be_of_one_number() -> None:
    with pytest.raises(NestedError, match="the objective is of 3 rank settings, and there are 2"):
        RankPasses(learning(), (8, 4))


def _backward(loss: Tensor) -> None:
    loss.backward()  # type: ignore[no-untyped-call]


def test_log_variances_learn_at_a_pace_of_their_own_and_never_decay() -> None:
    """Adam's first step is its rate, whatever the gradient: 1e-3 · 10 of s, 1e-3 of a weight."""
    recipe = Recipe(epochs=1, batch_size=4, learning_rate=1e-3, weight_decay=0.5)
    network = nn.Linear(2, 2, bias=False)
    objective = NestedObjective(
        NestedRecipe(weighing="uncertainty"), count=3, steps=1, seed=0, pace=10.0
    )
    learning = Learning(network, objective)
    optimizer = make_optimizer(learning, recipe, torch.device("cpu"))
    paced = [group for group in optimizer.param_groups if "pace" in group]
    assert [(g["pace"], g["weight_decay"], len(g["params"])) for g in paced] == [(10.0, 0.0, 1)]
    assert paced[0]["params"][0] is objective.log_variances
    held = [p for group in optimizer.param_groups for p in group["params"]]
    assert len(held) == 2
    plain = NestedObjective(NestedRecipe(weighing="uncertainty"), count=3, steps=1, seed=0)
    assert not hasattr(plain.log_variances, "pace")
