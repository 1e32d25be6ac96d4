"""The training loop: what it decides and what it keeps."""

import gc
import math
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from students import (
    DivergedError,
    Evaluation,
    RecipeError,
)
from students.checkpoint import read_tensors
from students.steps import (
    clip_gradient,
    make_optimizer,
    moments_of,
    restore_moments,
    step_seeds,
)
from tests.training_examples import (
    ROWS,
    Net,
    check_board,
    data,
    lines,
    network,
    recipe,
    scripted,
    train,
    weights,
)


def test_the_rate_warms_up_linearly_and_falls_as_a_cosine() -> None:
    plan = recipe(learning_rate=1.0, warmup=0.2)
    rates = [plan.rate(step, 10) for step in range(10)]
    expected = [0.5, 1.0] + [0.5 * (1 + math.cos(math.pi * i / 8)) for i in range(8)]
    assert rates == pytest.approx(expected)
    assert recipe(learning_rate=1.0, warmup=0.0).rate(0, 10) == 1.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs and batch_size must be at least 1, got 0 and 8"),
        ({"batch_size": 0}, "got 3 and 0"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"learning_rate": math.nan}, "learning_rate must be above 0"),
        ({"weight_decay": -1.0}, "weight_decay and clip not below"),
        ({"warmup": 1.0}, r"warmup is a share of the steps, in \[0, 1\), got 1.0"),
        ({"precision": "half"}, "one of auto, float32, bfloat16, float16, got 'half'"),
        ({"ema": 1.0}, r"ema is a decay in \[0, 1\), got 1.0"),
        ({"patience": -1}, "patience and micro_batch must not be below 0, got -1 and 0"),
        ({"micro_batch": -2}, "got 0 and -2"),
    ],
)
def test_a_recipe_that_cannot_be_followed_is_refused(changes: Any, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        recipe(**changes)


def test_better_is_more_accurate_then_less_loss_then_earlier() -> None:
    base = Evaluation(accuracy=0.5, loss=1.0)
    assert base.beats(None)
    assert Evaluation(accuracy=0.6, loss=9.0).beats(base)
    assert Evaluation(accuracy=0.5, loss=0.9).beats(base)
    assert not Evaluation(accuracy=0.4, loss=0.0).beats(base)
    assert not Evaluation(accuracy=0.5, loss=1.0).beats(base)


def test_sgd_takes_the_steps_that_torch_would_take_by_hand() -> None:
    net, twin = nn.Linear(2, 1, bias=False), nn.Linear(2, 1, bias=False)
    twin.load_state_dict(net.state_dict())
    ours = make_optimizer(net, recipe(optimizer="sgd", weight_decay=0.5), torch.device("cpu"))
    momentum = torch.zeros(1, 2)
    for gradient in (torch.tensor([[1.0, -2.0]]), torch.tensor([[0.5, 0.5]])):
        net.weight.grad = gradient.clone()
        ours.step()
        momentum = 0.9 * momentum + gradient + 0.5 * twin.weight.detach()
        twin.weight.data -= 0.01 * momentum
    torch.testing.assert_close(net.weight, twin.weight)
    with pytest.raises(RecipeError, match="adamw or sgd, got 'adam'"):
        recipe(optimizer="adam")


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_the_moments_come_back_bit_for_bit(optimizer: str) -> None:
    net = network()
    first = make_optimizer(net, recipe(optimizer=optimizer), torch.device("cpu"))
    for parameter in net.parameters():
        parameter.grad = torch.randn_like(parameter)
    first.step()
    second = make_optimizer(net, recipe(optimizer=optimizer), torch.device("cpu"))
    restore_moments(second, moments_of(first))
    assert moments_of(second).keys() == moments_of(first).keys() != set()
    for name, tensor in moments_of(first).items():
        torch.testing.assert_close(moments_of(second)[name], tensor, rtol=0, atol=0)


def test_weights_decay_and_biases_and_norms_do_not() -> None:
    decayed, kept = make_optimizer(network(), recipe(), torch.device("cpu")).param_groups
    assert [tuple(p.shape) for p in decayed["params"]] == [(4, 3, 3, 3), (3, 36)]
    assert [tuple(p.shape) for p in kept["params"]] == [(4,), (4,), (4,), (3,)]
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.1, 0.0)


def test_frozen_parameters_are_not_learned(tmp_path: Path) -> None:
    net = network()
    last = net.get_parameter("last.weight").requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    train(tmp_path, net, recipe=recipe(epochs=1))
    assert torch.equal(last, before["last.weight"])
    assert not torch.equal(net.state_dict()["layers.0.weight"], before["layers.0.weight"])


def test_nothing_of_a_finished_training_waits_for_the_garbage_collector(tmp_path: Path) -> None:
    """Many trainings in one process: rings around large tensors would fill the memory."""
    train(tmp_path / "first", recipe=recipe(epochs=1))  # what is loaded with the first may stay
    gc.collect()
    gc.disable()
    try:
        net = network()
        known = {id(one) for one in gc.get_objects()}
        train(tmp_path / "second", net, recipe=recipe(epochs=1))
        seen = weakref.ref(net)
        del net
        assert seen() is None
        left = [
            type(one).__name__
            for one in gc.get_objects()
            if id(one) not in known and isinstance(one, (torch.optim.Optimizer, Tensor, nn.Module))
        ]
    finally:
        gc.enable()
    assert left == []


def test_a_step_is_adamws_on_the_clipped_gradient(tmp_path: Path) -> None:
    """One batch, by torch's own plain AdamW and clipping."""
    feed, labels = data()
    plan = recipe(epochs=1, batch_size=ROWS, clip=0.01, warmup=0.0)
    net, twin = network(), network()
    for module in (net, twin):  # no dropout, whose mask would have to be the same
        module.get_submodule("layers.4").p = 0.0  # type: ignore[assignment]
    train(tmp_path, net, recipe=plan)
    twin.train()
    loss = nn.functional.cross_entropy(twin(feed.inputs), torch.from_numpy(labels))
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(twin.parameters(), 0.01)
    matrices = [p for p in twin.parameters() if p.ndim > 1]
    vectors = [p for p in twin.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    torch.optim.AdamW(groups, lr=0.01, foreach=False).step()
    for name, value in net.named_parameters():
        if name != "layers.0.bias":  # BatchNorm takes it away again: its gradient is rounding
            torch.testing.assert_close(value, twin.get_parameter(name), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("most", "expected"), [(0.0, 5.0), (10.0, 5.0), (1.0, 1.0)])
def test_a_gradient_is_shortened_only_when_it_is_too_long(most: float, expected: float) -> None:
    net = nn.Linear(2, 1)
    net.weight.grad, net.bias.grad = torch.tensor([[3.0, 0.0]]), torch.tensor([4.0])
    norm = clip_gradient(make_optimizer(net, recipe(), torch.device("cpu")), most)
    assert float(norm) == pytest.approx(5.0)
    after = torch.cat([net.weight.grad.flatten(), net.bias.grad]).norm()
    assert float(after) == pytest.approx(expected, rel=1e-5)
    assert float(net.bias.grad) / float(net.weight.grad[0, 0]) == pytest.approx(4 / 3)


def test_every_step_of_every_epoch_and_seed_draws_anew() -> None:
    seeds = [seed for s in range(4) for epoch in range(4) for seed in step_seeds(s, epoch, 4)]
    assert len(set(seeds)) == 64
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert step_seeds(1, 2, 9)[:4] == step_seeds(1, 2, 4)


def test_dropout_is_another_one_at_every_step(tmp_path: Path) -> None:
    masks: list[bytes] = []

    class Dropping(Net):
        def forward(self, prepared: dict[str, Tensor]) -> Tensor:
            if self.training:
                masks.append(nn.functional.dropout(torch.ones(99)).numpy().tobytes())
            return super().forward(prepared)

    train(tmp_path, Dropping())
    assert len(masks) == len(set(masks)) == 3 * 8


def test_it_learns_and_says_what_it_did(tmp_path: Path) -> None:
    seen: list[int] = []
    told: list[dict[str, Any]] = []
    net = network()
    result = train(
        tmp_path, net, recipe=recipe(epochs=12), on_rows=seen.append, on_epoch=told.append
    )
    assert result.best.accuracy > 0.9
    assert result.history[0]["loss"] > 2 * result.history[-1]["loss"]
    assert sum(seen) == 12 * ROWS
    assert tuple(told) == result.history == tuple(lines(tmp_path))
    assert told[-1]["step"] == 12 * 8
    assert not net.training
    assert not result.resumed
    check_board(tmp_path)


def test_the_mean_loss_of_an_epoch_weighs_rows_alike(tmp_path: Path) -> None:
    def loss(outputs: Tensor, targets: dict[str, Tensor]) -> Tensor:
        return (outputs * 0).sum() + targets["labels"].float().mean()

    _, labels = data()
    result = train(tmp_path, loss=loss, recipe=recipe(epochs=1))
    assert result.history[0]["loss"] == pytest.approx(labels.mean())


def test_an_epoch_is_the_rows_of_its_order_and_not_all_of_the_feed(tmp_path: Path) -> None:
    """As where every epoch sees one view of each example."""
    orders = {1: [[0, 1, 2], [3, 4]], 2: [[5, 6], [7, 8, 9]], 3: [[10, 11, 12], [13, 14]]}
    seen: list[int] = []

    def loss(outputs: Tensor, targets: dict[str, Tensor]) -> Tensor:
        return (outputs * 0).sum() + targets["labels"].float().mean()

    def order(epoch: int) -> list[np.ndarray]:
        return [np.array(rows) for rows in orders[epoch]]

    _, labels = data()
    result = train(tmp_path, loss=loss, order=order, on_rows=seen.append)
    assert sum(seen) == 15
    assert [entry["step"] for entry in result.history] == [2, 4, 6]
    for first, entry in zip((0, 5, 10), result.history, strict=True):
        assert entry["loss"] == pytest.approx(labels[first : first + 5].mean())


def test_every_epoch_has_as_many_steps_as_the_first(tmp_path: Path) -> None:
    def order(epoch: int) -> list[np.ndarray]:
        return [np.arange(4)] * epoch

    with pytest.raises(RecipeError, match="epoch 2 has 2 steps and the first one has 1"):
        train(tmp_path, order=order)


def test_a_network_may_give_several_outputs(tmp_path: Path) -> None:
    class Both(Net):
        def forward(self, prepared: dict[str, Tensor]) -> Any:
            logits = super().forward(prepared)
            return {"logits": logits.double(), "count": torch.tensor(len(logits))}

    def loss(outputs: dict[str, Tensor], targets: dict[str, Tensor]) -> Tensor:
        assert outputs["logits"].dtype == torch.float32
        assert int(outputs["count"]) == len(targets["labels"])
        return nn.functional.cross_entropy(outputs["logits"], targets["labels"])

    nets = [network(), Both()]
    nets[1].load_state_dict(nets[0].state_dict())
    for name, net in zip("ab", nets, strict=True):
        evaluate = scripted([(0.5, 1.0)])
        more = {} if name == "a" else {"loss": loss}
        train(tmp_path / name, net, recipe=recipe(epochs=1), evaluate=evaluate, **more)
    for one, other in zip(*(net.parameters() for net in nets), strict=True):
        assert torch.equal(one, other)


def test_measures_are_recorded_and_choose_nothing(tmp_path: Path) -> None:
    found = [
        Evaluation(accuracy=0.6, loss=1.0, measures={"knn_accuracy": 0.3}),
        Evaluation(accuracy=0.5, loss=1.0, measures={"knn_accuracy": 0.9, "epoch": 7.0}),
    ]
    left = iter(found)
    result = train(tmp_path, recipe=recipe(epochs=2), evaluate=lambda _: next(left))
    assert [line["knn_accuracy"] for line in lines(tmp_path)] == [0.3, 0.9]
    assert [line["epoch"] for line in lines(tmp_path)] == [1, 2]
    assert (result.best_epoch, result.best) == (1, found[0])
    assert train(tmp_path, recipe=recipe(epochs=2)).best == found[0]


def test_the_best_epoch_is_kept_and_not_the_last(tmp_path: Path) -> None:
    kept: list[dict[str, Tensor]] = []
    evaluate = scripted([(0.5, 1.0), (0.7, 0.9), (0.7, 0.8), (0.7, 0.8), (0.6, 0.1)])
    net = network()

    def watched(module: nn.Module) -> Evaluation:
        kept.append({name: tensor.clone() for name, tensor in module.state_dict().items()})
        return evaluate(module)

    result = train(tmp_path, net, evaluate=watched, recipe=recipe(epochs=5))
    assert (result.best_epoch, result.best) == (3, Evaluation(accuracy=0.7, loss=0.8))
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, kept[2][name])
    assert not torch.equal(kept[2]["last.weight"], kept[3]["last.weight"])


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_and_names_the_step(tmp_path: Path, value: float) -> None:
    calls = iter(range(1000))

    def loss(outputs: Tensor, targets: dict[str, Tensor]) -> Tensor:
        plain = nn.functional.cross_entropy(outputs, targets["labels"])
        return plain * (value if next(calls) == 10 else 1.0)

    expected = (
        rf"the loss became {value} at step 3 of 8 in epoch 2; the checkpoint of epoch 1 is kept "
        rf"in .*checkpoints; try a learning rate below 0.01"
    )
    with pytest.raises(DivergedError, match=expected):
        train(tmp_path, loss=loss)
    assert len(lines(tmp_path)) == 1
    assert all(bool(tensor.isfinite().all()) for tensor in weights(tmp_path).values())
    assert train(tmp_path).epochs == 3  # and it can go on from there


def test_a_gradient_that_is_not_finite_stops_too(tmp_path: Path) -> None:
    def loss(outputs: Tensor, targets: dict[str, Tensor]) -> Tensor:
        return (outputs * 0).abs().sqrt().sum()  # zero, with an infinite slope

    with pytest.raises(
        DivergedError, match="the gradient became nan at step 1 of 8 in epoch 1; no"
    ):
        train(tmp_path, loss=loss)


def test_it_stops_when_nothing_better_came_for_so_many_epochs(tmp_path: Path) -> None:
    """Better is as everywhere: more accurate, or as accurate with less loss."""
    found = [(0.5, 1.0), (0.6, 1.0), (0.6, 1.1), (0.6, 0.9), (0.5, 0.1), (0.6, 0.9), (0.7, 0.5)]
    told: list[str] = []
    plan = recipe(epochs=7, patience=2)
    result = train(tmp_path, recipe=plan, evaluate=scripted(found), on_note=told.append)
    assert (result.epochs, result.last_epoch, result.best_epoch) == (7, 6, 4)
    assert told == ["stopped after epoch 6 of 7: none was better than epoch 4"]
    assert result.notes == tuple(told)
    # the rate is that of the plan: it has not come down to zero
    assert result.history[-1]["learning_rate"] == pytest.approx(plan.rate(47, 56))
    assert len(lines(tmp_path)) == 6
    again = train(tmp_path, recipe=plan, evaluate=scripted([]))
    assert (again.last_epoch, again.best_epoch, again.notes) == (6, 4, tuple(told))


def test_patience_that_lasts_to_the_end_stops_nothing(tmp_path: Path) -> None:
    found = [(0.5, 1.0), (0.4, 1.0), (0.4, 1.0)]
    result = train(tmp_path, recipe=recipe(patience=2), evaluate=scripted(found))
    assert (result.last_epoch, result.notes) == (3, ())


def test_the_loss_is_told_while_an_epoch_lasts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("students.loop._TELL_SECONDS", 0.0)
    told: list[float] = []

    def loss(outputs: Tensor, targets: dict[str, Tensor]) -> Tensor:
        return (outputs * 0).sum() + targets["labels"].float().mean()

    def order(epoch: int) -> list[np.ndarray]:
        return [np.arange(4), np.arange(4, 6)]

    _, labels = data()
    train(tmp_path, loss=loss, order=order, on_loss=told.append, recipe=recipe(epochs=1))
    assert told == pytest.approx([labels[:4].mean(), labels[:6].mean()])


@pytest.mark.parametrize("changes", [{"ema": 0.9}, {"micro_batch": 3}, {"precision": "bfloat16"}])
def test_a_loss_that_is_not_finite_is_seen_however_it_learns(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    calls = iter(range(1000))
    # in the second step of the second epoch; an epoch is 7 steps of 3 parts and one of 2
    bad = 23 + 3 + 1 if "micro_batch" in changes else 9

    def loss(outputs: Tensor, targets: dict[str, Tensor]) -> Tensor:
        plain = nn.functional.cross_entropy(outputs, targets["labels"])
        return plain * (math.nan if next(calls) == bad else 1.0)

    with pytest.raises(DivergedError, match="the loss became nan at step 2 of 8 in epoch 2"):
        train(tmp_path, loss=loss, recipe=recipe(**changes))
    assert all(bool(tensor.isfinite().all()) for tensor in weights(tmp_path).values())
    last = read_tensors(tmp_path / "checkpoints" / "last.safetensors")[0]
    assert all(bool(tensor.isfinite().all()) for tensor in last.values())
    assert train(tmp_path, recipe=recipe(**changes)).last_epoch == 3
