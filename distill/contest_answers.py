"""One network of a frontier: taught and answered once, read back from its folder ever after."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import torch

from distill.config import fingerprint
from distill.contest import Contestant, Room
from distill.findings import Record
from distill.runs import recall, remember
from students import read_tensors, write_tensors

RECORD, ANSWERS = "answers.json", "answers.safetensors"
SPLITS = ("validation", "test")


@dataclass(frozen=True, kw_only=True)
class Place(Record):
    """A spot as it is told: without its setting."""

    budget: float
    share: float
    parameters: int
    trained: bool


@dataclass(frozen=True, kw_only=True)
class Answered(Record):
    """What one network said at its spots, beside the arrays of it."""

    places: tuple[Place, ...]
    updates: int
    seconds: float
    notes: tuple[str, ...] = ()


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """What one network says of each row at each of its spots, by split: of classes, which one."""

    answered: Answered
    predicted: Mapping[str, np.ndarray]  # (spots, rows, …)


def answers_of(
    contestant: Contestant, part: str, seed: int, room: Room, folder: Path, *, made_from: str
) -> Answers:
    """Read back, or teach and answer, one network; its record is written last.

    Killed or interrupted, the same call goes on from the last checkpoint.
    """
    earlier = recall(folder / RECORD, Answered, made_from=made_from)
    if earlier is not None:
        tensors, _ = read_tensors(folder / ANSWERS)
        return Answers(answered=earlier, predicted={s: tensors[s].numpy() for s in SPLITS})
    (folder / RECORD).unlink(missing_ok=True)  # it must not speak for other answers
    runner = contestant.runner(part, seed)
    updates, seconds = runner.taught, 0.0
    notes: tuple[str, ...] = ()
    if runner.lessons:
        lessons = fingerprint(list(runner.lessons))
        made_by = {"contestant": contestant.name, "part": part, "lessons": lessons}
        result = room.teach(runner, seed, folder, made_by=made_by)
        updates, seconds, notes = int(result.history[-1]["step"]), result.seconds, result.notes
    room.progress.say(f"{folder.name} answers at {len(runner.spots)} budgets")
    predicted = {split: room.answer(runner, split) for split in SPLITS}
    write_tensors(
        folder / ANSWERS, {name: torch.from_numpy(rows) for name, rows in predicted.items()}, {}
    )
    answered = Answered(
        places=tuple(
            Place(
                budget=spot.budget,
                share=spot.share,
                parameters=spot.parameters,
                trained=spot.trained,
            )
            for spot in runner.spots
        ),
        updates=updates,
        seconds=seconds,
        notes=notes,
    )
    remember(folder / RECORD, answered, made_from=made_from)
    return Answers(answered=answered, predicted=predicted)
