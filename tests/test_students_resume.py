"""Training that is stopped, killed or damaged goes on as if nothing had happened."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from students import (
    CheckpointError,
    LabelLoss,
)
from students.journal import Journal
from tests.training_examples import (
    CLASSES,
    ROWS,
    check_board,
    lines,
    network,
    recipe,
    scripted,
    train,
    weights,
)


class StopError(Exception):
    """Stands for the kill."""


PLAIN: dict[str, Any] = {}
FULL: dict[str, Any] = {"ema": 0.9, "micro_batch": 4, "patience": 2, "precision": "bfloat16"}


@pytest.mark.parametrize("at", [0, 3, 8, 11, 23])
@pytest.mark.parametrize("within", [True, False], ids=["within epochs", "after epochs"])
@pytest.mark.parametrize("options", [PLAIN, FULL], ids=["plain", "all options"])
def test_a_run_that_was_stopped_ends_as_if_it_had_not_been(
    tmp_path: Path, at: int, within: bool, options: dict[str, Any]
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    plan = recipe(**options)
    reference = train(whole, recipe=plan)
    at *= 2 if options else 1  # parts a step
    steps = iter(range(1000))

    def stopping(outputs: Tensor, targets: dict[str, Tensor]) -> Tensor:
        if next(steps) == at:
            raise StopError
        return LabelLoss()(outputs, targets)

    often: dict[str, Any] = {"checkpoint_seconds": 0.0 if within else 1e9, "recipe": plan}
    with pytest.raises(StopError):
        train(cut, loss=stopping, **often)
    seen: list[int] = []
    saved = at > 0 if within else at >= (16 if options else 8)
    start = network(seed=9 if saved else 0)  # the checkpoint counts, not what is handed in
    result = train(cut, start, on_rows=seen.append, **often)
    assert result.resumed is saved
    assert sum(seen) == 3 * ROWS
    assert weights(cut).keys() == weights(whole).keys()
    for name, tensor in weights(whole).items():
        assert torch.equal(tensor, weights(cut)[name]), name
    timing = {"seconds", "rows_per_second"}
    strip = [{k: v for k, v in line.items() if k not in timing} for line in lines(cut)]
    assert strip == [{k: v for k, v in line.items() if k not in timing} for line in lines(whole)]
    assert (result.best, result.best_epoch) == (reference.best, reference.best_epoch)


def test_a_resumed_run_stops_at_the_same_epoch(tmp_path: Path) -> None:
    found = [(0.5, 1.0), (0.6, 1.0), (0.6, 1.1), (0.5, 1.0), (0.9, 0.1), (0.9, 0.1)]
    plan = recipe(epochs=6, patience=2)
    with pytest.raises(StopIteration):
        train(tmp_path, recipe=plan, evaluate=scripted(found[:3]))
    result = train(tmp_path, recipe=plan, evaluate=scripted(found[3:]))
    assert (result.resumed, result.last_epoch, result.best_epoch) == (True, 4, 2)
    assert len(lines(tmp_path)) == 4


def test_the_global_generator_neither_changes_nor_matters(tmp_path: Path) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    train(tmp_path / "a")
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    train(tmp_path / "b")
    for name, tensor in weights(tmp_path / "a").items():
        assert torch.equal(tensor, weights(tmp_path / "b")[name]), name


def test_a_finished_training_is_read_back_and_not_repeated(tmp_path: Path) -> None:
    first = train(tmp_path)

    def never(outputs: Tensor, targets: dict[str, Tensor]) -> Tensor:
        raise AssertionError("nothing is left to learn")

    net = network(seed=5)
    again = train(tmp_path, net, loss=never)
    assert again.resumed
    assert again.history == first.history
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, weights(tmp_path)[name])
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert kept == ["best.safetensors", "last.safetensors"]
    assert (tmp_path / "checkpoints" / "last.safetensors").stat().st_size < 5000


def test_other_settings_are_refused_with_the_one_that_differs(tmp_path: Path) -> None:
    train(tmp_path, settings={"data": "digits"})
    with pytest.raises(
        CheckpointError, match=r"learning_rate = 0\.01, now it is 0\.02; use another"
    ):
        train(tmp_path, settings={"data": "digits"}, recipe=recipe(learning_rate=0.02))
    with pytest.raises(CheckpointError, match='data = "digits", now it is "letters"'):
        train(tmp_path, settings={"data": "letters"})


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Linear(75, CLASSES)

        def forward(self, prepared: dict[str, Tensor]) -> Tensor:
            rows: Tensor = self.last(prepared["pixel_values"].flatten(1))
            return rows

    with pytest.raises(StopIteration):
        train(tmp_path, evaluate=scripted([(0.1, 1.0)]))
    with pytest.raises(CheckpointError, match="is of another network"):
        train(tmp_path, Half())


def test_a_damaged_checkpoint_costs_an_epoch_and_changes_nothing(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train(whole)
    with pytest.raises(StopIteration):
        train(cut, evaluate=scripted([(0.1, 1.0), (0.2, 1.0)]))
    for part in (whole, cut):
        assert (part / "checkpoints").is_dir()
    last = cut / "checkpoints" / "last.safetensors"
    data = bytearray(last.read_bytes())
    data[-9] ^= 1
    last.write_bytes(data)
    told: list[str] = []
    result = train(cut, on_note=told.append)
    assert result.resumed
    assert "went back to the checkpoint before the last" in result.notes[0]
    assert tuple(told) == result.notes
    assert len(lines(cut)) == 3
    check_board(cut)


@pytest.mark.parametrize("at", [0, 1, 2])
def test_killed_before_an_epoch_is_told_metrics_and_tensorboard_have_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """The checkpoint has it already."""
    write, calls = Journal.write, iter(range(3))

    def killed(journal: Journal, entry: Any) -> None:
        if next(calls) == at:
            raise StopError
        write(journal, entry)

    monkeypatch.setattr(Journal, "write", killed)
    with pytest.raises(StopError):
        train(tmp_path)
    monkeypatch.undo()
    train(tmp_path)
    assert [line["epoch"] for line in lines(tmp_path)] == [1, 2, 3]
    check_board(tmp_path)


def test_damage_to_the_best_weights_is_named_with_what_to_do(tmp_path: Path) -> None:
    train(tmp_path)
    best = tmp_path / "checkpoints" / "best.safetensors"
    data = bytearray(best.read_bytes())
    data[-9] ^= 1
    best.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"best\.safetensors is damaged: .* --overwrite"):
        train(tmp_path)


def test_another_number_of_threads_is_said(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    with pytest.raises(StopIteration):
        train(tmp_path, evaluate=scripted([(0.1, 1.0)]))
    torch.set_num_threads(threads + 1)
    try:
        result = train(tmp_path)
    finally:
        torch.set_num_threads(threads)
    expected = f"resumed with {threads + 1} threads what was begun with {threads}"
    assert result.notes[0].startswith(expected)


EPOCHS = 24
VICTIM = """
import sys
from pathlib import Path
import torch
from tests.training_examples import recipe, train
torch.set_num_threads(1)
options = {"ema": 0.9, "micro_batch": 4, "patience": 20} if sys.argv[3] == "full" else {}
plan = recipe(epochs=int(sys.argv[2]), **options)
train(Path(sys.argv[1]), recipe=plan, checkpoint_seconds=0.005)
"""


def victim(folder: Path, options: str) -> "subprocess.Popen[bytes]":
    root = Path(__file__).resolve().parents[1]
    return subprocess.Popen(
        [sys.executable, "-c", VICTIM, str(folder), str(EPOCHS), options],
        env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
    )


def kill_after(process: "subprocess.Popen[bytes]", folder: Path, *, epochs: int) -> None:
    """Kill once so many epochs are on record, a random moment later."""
    metrics = folder / "metrics.jsonl"
    while process.poll() is None:
        if metrics.exists() and len(metrics.read_text().splitlines()) >= epochs:
            time.sleep(float(np.random.default_rng().uniform(0, 0.05)))
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.002)
    assert process.wait() == -signal.SIGKILL


@pytest.mark.parametrize(
    ("kills", "options"),
    [
        ((9,), "full"),
        pytest.param((9,), "plain", marks=pytest.mark.slow),
        pytest.param((2, 6, 9, 13, 17, 20), "full", marks=pytest.mark.slow),
    ],
)
def test_killed_at_random_moments_the_weights_are_those_of_a_run_that_never_was(
    tmp_path: Path, kills: tuple[int, ...], options: str
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    reference = victim(whole, options)
    for epochs in kills:
        kill_after(victim(cut, options), cut, epochs=epochs)
    assert victim(cut, options).wait() == 0
    assert reference.wait() == 0
    for name, tensor in weights(whole).items():
        assert torch.equal(tensor, weights(cut)[name]), name
    assert [line["epoch"] for line in lines(cut)] == list(range(1, EPOCHS + 1))
