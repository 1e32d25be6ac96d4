"""Trainings in several processes, as ``torchrun`` would start them: a script, and who starts it."""

import atexit
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from students import Evaluation, LabelLoss, evaluate_logits, forward_rows, write_tensors
from students.nested import set_rank
from tests.nested_examples import Mlp, drawn
from tests.training_examples import CLASSES, data, network, recipe, train

ROOT = Path(__file__).resolve().parents[1]
AVERAGED: dict[str, Any] = {"ema": 0.9, "micro_batch": 3, "patience": 2, "clip": 0.5}


class Plain(nn.Module):
    """A network in which no row sees another, and nothing is drawn."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(75, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, CLASSES)
        )
        self.unused = nn.Linear(2, 2)  # learns nothing, so that it must not decay either

    def forward(self, prepared: dict[str, Tensor]) -> Tensor:
        rows: Tensor = self.layers(prepared["pixel_values"])
        return rows


def plain(seed: int = 0) -> Plain:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Plain()


def lonely(epoch: int) -> list[np.ndarray]:
    """Batches of which one has a row for the first process alone."""
    rows = np.random.default_rng(epoch).permutation(20)
    return [rows[:7], rows[7:8], rows[8:]]


class Killed:
    """A loss that kills its process at one of its calls."""

    def __init__(self, at: int) -> None:
        self.left = at

    def __call__(self, outputs: Tensor, targets: dict[str, Tensor]) -> Tensor:
        if self.left == 0:
            os.kill(os.getpid(), 9)
        self.left -= 1
        return LabelLoss()(outputs, targets)


def together(folder: Path, rank: int) -> None:
    """Everything that goes well, one training after the other, and what this process saw of it."""
    calls: list[str] = []
    feed, labels = data()

    def evaluate(module: nn.Module) -> Evaluation:
        calls.append("evaluate")
        return evaluate_logits(forward_rows(module, feed), labels)

    result = train(
        folder / "plain",
        plain(seed=rank),  # the leader's weights count
        evaluate=evaluate,
        on_rows=lambda rows: calls.append(f"{rows} rows"),
        on_epoch=lambda entry: calls.append(f"epoch {entry['epoch']}"),
    )
    seen: dict[str, Any] = {"calls": calls, "history": result.history[-1]["validation_loss"]}
    train(folder / "averaged", plain(), recipe=recipe(**AVERAGED))
    train(folder / "lonely", plain(), order=lonely)
    seen |= _statistics(folder) | _memory(folder, rank)
    try:
        train(folder / "other", plain(), settings={"data": f"of process {rank}"})
    except ValueError as error:
        seen["refused"] = str(error)
    try:
        train(folder / "nan", plain(), loss=_nan_in_one(rank))
    except ValueError as error:
        seen["diverged"] = str(error)
    (folder / f"seen-{rank}.json").write_text(json.dumps(seen))


def _statistics(folder: Path) -> dict[str, Any]:
    """A network with BatchNorm and dropout: what each process holds after its last step."""
    net = network()
    held: list[float] = []
    masks: list[float] = []

    def watching(outputs: Tensor, targets: dict[str, Tensor]) -> Tensor:
        masks.append(float(nn.functional.dropout(torch.ones(999)).sum()))
        held.append(float(net.get_buffer("layers.1.running_var").sum()))
        return LabelLoss()(outputs, targets)

    train(folder / "statistics", net, loss=watching, recipe=recipe(epochs=1))
    return {"variances": held, "masks": masks}


def _memory(folder: Path, rank: int) -> dict[str, Any]:
    """The second process has less memory than the first."""
    told: list[str] = []

    class Greedy(Plain):
        def forward(self, prepared: dict[str, Tensor]) -> Tensor:
            rows = super().forward(prepared)
            if rank == 1 and self.training and len(rows) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return rows

    net = Greedy()
    net.load_state_dict(plain().state_dict())
    result = train(folder / "memory", net, on_note=told.append)
    return {"told": told, "notes": result.notes}


def _nan_in_one(rank: int) -> Any:
    def loss(outputs: Tensor, targets: dict[str, Tensor]) -> Tensor:
        return LabelLoss()(outputs, targets) * (float("nan") if rank == 1 else 1.0)

    return loss


def nested_update(network: nn.Module, rows: Tensor) -> None:
    """Two updates' gradients, each of passes at several ranks: means over these rows."""
    for ranks in ((6, 1, 3), (2, 6)):
        for rank in ranks:
            set_rank(network, rank)
            network(rows).square().mean().backward()


def gradients(network: nn.Module) -> dict[str, Tensor]:
    """What each parameter has been told so far."""
    found = {name: parameter.grad for name, parameter in network.named_parameters()}
    return {name: gradient for name, gradient in found.items() if gradient is not None}


def nested(folder: Path, rank: int) -> None:
    """A nested network in torch's own DistributedDataParallel: half the rows in each process."""
    distributed.init_process_group("gloo")
    network = Mlp()
    nested_update(DistributedDataParallel(network), drawn(0, 8, 6)[rank::2])
    write_tensors(folder / f"nested-{rank}.safetensors", gradients(network), {})
    distributed.destroy_process_group()


def killed(folder: Path, rank: int) -> None:
    """The second process is killed in its second epoch."""
    loss = Killed(at=11) if rank == 1 else LabelLoss()
    train(folder / "killed", plain(), loss=loss, checkpoint_seconds=0.0)


def resumed(folder: Path, rank: int) -> None:
    """What was killed goes on."""
    result = train(folder / "killed", plain(seed=7), checkpoint_seconds=0.0)
    (folder / f"resumed-{rank}.json").write_text(json.dumps(result.resumed))


def threads() -> list[str]:
    """Names of the threads of this process, those that Python does not know among them."""
    return sorted(path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm"))


def free_port() -> int:
    """A port that nothing on this machine listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def start(case: str, folder: Path, *, processes: int = 2) -> "list[tuple[int, str]]":
    """Run a case in several processes; the exit code and stderr of each."""
    port = free_port()
    begun = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.parallel_examples", case, str(folder)],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "OMP_NUM_THREADS": "1",
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(processes),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
            },
        )
        for rank in range(processes)
    ]
    ends = [process.communicate(timeout=240) for process in begun]
    return [(process.returncode, told) for process, (_, told) in zip(begun, ends, strict=True)]


if __name__ == "__main__":
    folder, rank = Path(sys.argv[2]), int(os.environ["RANK"])
    # before the first training registers how it leaves the others, so that this runs after that
    atexit.register(lambda: (folder / f"left-{rank}.json").write_text(json.dumps(threads())))
    cases = {"together": together, "nested": nested, "killed": killed, "resumed": resumed}
    cases[sys.argv[1]](folder, rank)
