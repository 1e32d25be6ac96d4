"""What a training keeps in its folder: two checkpoints, and the weights of the best epoch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from students.checkpoint import (
    PREVIOUS,
    Checkpoint,
    clear_scratch,
    load_checkpoint,
    read_tensors,
    same_settings,
    save_checkpoint,
    write_tensors,
)
from students.errors import CheckpointError
from students.state import State
from students.stepping import Stepper
from students.steps import moments_of, restore_moments

CHECKPOINTS = "checkpoints"
BEST = "best.safetensors"


class Keeper:
    """Saves and restores one training. A process that does not lead reads only."""

    def __init__(
        self, folder: Path, *, made_by: dict[str, Any], stepper: Stepper, leads: bool
    ) -> None:
        self.folder = folder / CHECKPOINTS
        self._made_by = made_by
        self._stepper = stepper
        self._leads = leads
        self.notes: list[str] = []  # what the user should know of the resumption

    def resume(self, finished: Callable[[State], bool]) -> State | None:
        """Go back to the last sound checkpoint; none where there is none.

        One with other settings, or of another network, raises ``CheckpointError``. Of a training
        that is ``finished`` nothing is restored: see ``load_best``.
        """
        if self._leads:
            clear_scratch(self.folder)
        checkpoint = load_checkpoint(self.folder)
        if checkpoint is None:
            return None
        saved = checkpoint.state
        what = f"the training in {self.folder.parent}"
        same_settings(self._made_by, saved["made_by"], what=what)
        state = State.from_json(saved["progress"])
        if checkpoint.note:
            self.notes.append(f"went back to the checkpoint before the last: {checkpoint.note}")
        if not finished(state):
            self._restore(checkpoint)
            self._stepper.micro_batch = state.micro_batch
            self.notes += _threads(saved["threads"])
        return state

    def save(self, state: State, *, finished: bool) -> None:
        """Make this the last checkpoint; of a finished training it holds no tensors."""
        if not self._leads:
            return
        stepper = self._stepper
        state.micro_batch = stepper.micro_batch
        saved = {
            "made_by": self._made_by,
            "threads": torch.get_num_threads(),
            "progress": state.to_json(),
        }
        if stepper.scaler is not None:
            saved["scaler"] = stepper.scaler.state_dict()
        # finished: the best epoch is all that will be asked for
        save_checkpoint(self.folder, tensors={} if finished else self._tensors(), state=saved)
        if finished:
            (self.folder / PREVIOUS).unlink(missing_ok=True)

    def save_best(self, epoch: int) -> None:
        """Keep the network's weights as they are now."""
        if self._leads:
            write_tensors(self.folder / BEST, self._stepper.network.state_dict(), {"epoch": epoch})

    def load_best(self) -> None:
        """Give the network the weights of the best epoch; ``CheckpointError`` if damaged."""
        try:
            tensors, _ = read_tensors(self.folder / BEST)
        except CheckpointError as error:
            raise CheckpointError(f"{error}; begin this training again with --overwrite") from error
        self._stepper.network.load_state_dict(tensors)

    def _tensors(self) -> dict[str, Tensor]:
        stepper = self._stepper
        average = {} if stepper.average is None else stepper.average.tensors()
        parts = {
            "network": stepper.network.state_dict(),
            "moments": moments_of(stepper.optimizer),
            "average": average,
        }
        return {f"{part}.{name}": t for part, found in parts.items() for name, t in found.items()}

    def _restore(self, checkpoint: Checkpoint) -> None:
        stepper = self._stepper
        parts: dict[str, dict[str, Tensor]] = {"network": {}, "moments": {}, "average": {}}
        for name, tensor in checkpoint.tensors.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = tensor
        try:
            stepper.network.load_state_dict(parts["network"])
            if stepper.average is not None:
                stepper.average.restore(parts["average"])
        except (RuntimeError, KeyError) as error:
            raise CheckpointError(
                f"the checkpoint in {self.folder} is of another network; "
                f"use another run folder, or begin again with --overwrite"
            ) from error
        restore_moments(stepper.optimizer, parts["moments"])
        if stepper.scaler is not None:
            stepper.scaler.load_state_dict(checkpoint.state["scaler"])


def _threads(before: int) -> list[str]:
    now = torch.get_num_threads()
    if now == before:
        return []
    return [
        f"resumed with {now} threads what was begun with {before}: the last bits may differ from "
        f"an uninterrupted run"
    ]
