"""A step: in parts, and once more where memory runs out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from students import Batch, LabelLoss, StudentError
from students.checkpoint import read_tensors
from students.stepping import Forward, _parts
from tests.training_examples import CLASSES, ROWS, Net, lines, network, recipe, train, weights


class Plain(nn.Module):
    """A network in which no row sees another."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(75, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, CLASSES)
        )

    def forward(self, prepared: dict[str, Tensor]) -> Tensor:
        rows: Tensor = self.layers(prepared["pixel_values"])
        return rows


def plain() -> Plain:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Plain()


@given(rows=st.integers(1, 40), most=st.integers(1, 50))
def test_the_parts_are_the_batch_in_order_as_few_and_as_equal_as_can_be(
    rows: int, most: int
) -> None:
    batch = Batch({"x": torch.arange(rows)}, {"y": torch.arange(rows)[:, None] * 2})
    parts = list(_parts(batch, rows, most))
    assert torch.equal(torch.cat([part.inputs["x"] for part in parts]), batch.inputs["x"])
    assert torch.equal(torch.cat([part.targets["y"] for part in parts]), batch.targets["y"])
    sizes = [len(part.inputs["x"]) for part in parts]
    assert sizes == [len(part.targets["y"]) for part in parts]
    assert len(sizes) == -(-rows // most)
    assert 0 < min(sizes) <= max(sizes) <= min(most, min(sizes) + 1)


@pytest.mark.parametrize("micro", [1, 7, 60])
def test_the_gradient_of_parts_is_that_of_the_batch(tmp_path: Path, micro: int) -> None:
    """One step of plain gradient descent at rate 1: the weights' change is the gradient."""
    plan = {"epochs": 1, "batch_size": ROWS, "optimizer": "sgd", "learning_rate": 1.0}
    plan |= {"weight_decay": 0.0, "warmup": 0.0, "clip": 0.0}
    nets = [plain(), plain()]
    results = [
        train(tmp_path / str(size), net, recipe=recipe(**plan, micro_batch=size))
        for net, size in zip(nets, (0, micro), strict=True)
    ]
    for one, other in zip(*(net.parameters() for net in nets), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)
    first, second = (result.history[0]["loss"] for result in results)
    assert first == pytest.approx(second, rel=1e-6)


class Twice:
    """The labels' loss, half of it from each of two passes; remembers which steps asked."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def gradient(
        self,
        forward: Forward,
        inputs: dict[str, Tensor],
        targets: dict[str, Tensor],
        *,
        at: int,
        backward: Callable[[Tensor], None],
    ) -> Tensor:
        self.asked.append(at)
        total = torch.zeros(())
        for _ in range(2):
            loss = LabelLoss()(forward(inputs), targets) / 2
            backward(loss)
            total += loss.detach()
        return total


@pytest.mark.parametrize("micro", [0, 3])
def test_a_loss_of_several_passes_adds_up_their_gradients(tmp_path: Path, micro: int) -> None:
    plan = recipe(micro_batch=micro, clip=1.0)
    once, twice, loss = plain(), plain(), Twice()
    plainly = train(tmp_path / "once", once, recipe=plan)
    passed = train(tmp_path / "twice", twice, recipe=plan, loss=loss)
    for one, other in zip(once.parameters(), twice.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    assert passed.history[-1]["loss"] == pytest.approx(plainly.history[-1]["loss"], rel=1e-5)
    assert list(dict.fromkeys(loss.asked)) == list(range(3 * 8))  # epochs, steps of each


def test_parts_are_at_most_as_large_as_asked(tmp_path: Path) -> None:
    sizes: list[int] = []

    class Watched(Plain):
        def forward(self, prepared: dict[str, Tensor]) -> Tensor:
            if self.training:
                sizes.append(len(prepared["pixel_values"]))
            return super().forward(prepared)

    train(tmp_path, Watched(), recipe=recipe(epochs=1, micro_batch=3))
    assert sizes == [3, 3, 2] * 7 + [3, 2]


class Greedy(Net):
    """Runs out of memory at the end of its work, when its BatchNorm has changed already."""

    def __init__(self, most: int, error: Exception | None = None) -> None:
        super().__init__()
        self.load_state_dict(network().state_dict())
        self.most = most
        self.error = error or torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")
        self.failures = 0

    def forward(self, prepared: dict[str, Tensor]) -> Tensor:
        rows = super().forward(prepared)
        if self.training and len(rows) > self.most:
            self.failures += 1
            raise self.error
        return rows


CPU_ERROR = RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: not enough memory")


@pytest.mark.parametrize("error", [None, CPU_ERROR], ids=["GPU", "CPU"])
def test_out_of_memory_halves_the_parts_and_takes_the_step_again(
    tmp_path: Path, error: Exception | None
) -> None:
    """From the same state and seed: bit for bit what those parts give from the beginning."""
    net, told = Greedy(2, error), list[str]()
    result = train(tmp_path / "found", net, on_note=told.append)
    train(tmp_path / "given", recipe=recipe(micro_batch=2))
    assert net.failures == 2
    assert told == [
        "out of memory with 8 rows at a time: batches are now made of 4 rows at a time, "
        "their gradients added",
        "out of memory with 4 rows at a time: batches are now made of 2 rows at a time, "
        "their gradients added",
    ]
    assert list(result.notes) == told
    for name, tensor in weights(tmp_path / "given").items():
        assert torch.equal(weights(tmp_path / "found")[name], tensor), name
    strip = [
        [(line["loss"], line["validation_loss"]) for line in lines(tmp_path / part)]
        for part in ("found", "given")
    ]
    assert strip[0] == strip[1]


def test_an_allocation_that_really_fails_is_recognised(tmp_path: Path) -> None:
    class Huge(Net):
        def forward(self, prepared: dict[str, Tensor]) -> Tensor:
            rows = super().forward(prepared)
            if self.training and len(rows) > 4:
                torch.empty(1 << 55)
            return rows

    result = train(tmp_path, Huge(), recipe=recipe(epochs=1))
    assert result.notes[0].startswith("out of memory with 8 rows at a time")


def test_out_of_memory_in_mid_training_takes_that_step_again(tmp_path: Path) -> None:
    """The steps before it were whole; nothing but its parts is another."""
    net = Greedy(4)
    net.most, calls = 99, iter(range(1000))

    def loss(outputs: Tensor, targets: dict[str, Tensor]) -> Tensor:
        if next(calls) == 10:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return LabelLoss()(outputs, targets)

    changed: list[Tensor] = []

    class Watched(Net):
        def forward(self, prepared: dict[str, Tensor]) -> Tensor:
            if self.training:
                changed.append(self.get_buffer("layers.1.running_mean").clone())
            return super().forward(prepared)

    train(tmp_path, Watched(), loss=loss)
    assert torch.equal(changed[10], changed[11])
    assert not torch.equal(changed[9], changed[10])
    assert len(changed) == 10 + 1 + 2 * 14  # whole, the failed one, halves


def test_the_smaller_parts_are_kept_when_it_goes_on(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train(whole, Greedy(2))
    calls = iter(range(1000))

    def stopping(outputs: Tensor, targets: dict[str, Tensor]) -> Tensor:
        if next(calls) == 50:
            raise InterruptedError
        return LabelLoss()(outputs, targets)

    with pytest.raises(InterruptedError):
        train(cut, Greedy(2), loss=stopping, checkpoint_seconds=0.0)
    _, state = read_tensors(cut / "checkpoints" / "last.safetensors")
    assert state["progress"]["micro_batch"] == 2
    net = Greedy(2)
    result = train(cut, net, checkpoint_seconds=0.0)
    assert net.failures == 0
    assert [note.split(":")[0] for note in result.notes] == [
        "out of memory with 8 rows at a time",
        "out of memory with 4 rows at a time",
    ]
    for name, tensor in weights(whole).items():
        assert torch.equal(weights(cut)[name], tensor), name


def test_one_row_that_is_too_many_ends_it_with_a_clear_line(tmp_path: Path) -> None:
    expected = "out of memory on cpu with one row at a time: the network does not fit; take a"
    net: Any = Plain()
    forward = net.forward

    def greedy(prepared: dict[str, Tensor]) -> Tensor:
        if net.training:
            raise torch.OutOfMemoryError("CUDA out of memory")
        rows: Tensor = forward(prepared)
        return rows

    net.forward = greedy
    told: list[str] = []
    with pytest.raises(StudentError, match=expected):
        train(tmp_path, net, on_note=told.append)
    assert [int(note.split()[4]) for note in told] == [8, 4, 2]


def test_other_errors_of_a_network_are_its_own(tmp_path: Path) -> None:
    net = Greedy(2, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        train(tmp_path, net)
    assert net.failures == 1
