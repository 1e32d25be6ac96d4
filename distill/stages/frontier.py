"""``frontier``: what accuracy costs in FLOPs and in time, for a nested network and its rivals.

Every network is taught, or read back, and answers the validation and the test rows once, at all of
its budgets; then all are timed in turn. What is picked is picked on validation.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from distill.classroom import Classroom
from distill.config import FrontierConfig, fingerprint
from distill.contest import Contestant
from distill.contest_answers import Answers, Place, answers_of
from distill.contest_curves import (
    SAME,
    Heard,
    curve_of,
    picked_of,
    points_of,
)
from distill.contest_times import timed
from distill.findings import Frontier
from distill.frontiers import common_floor
from students.nested import held_norms


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Field:
    """What is measured, beside the contestants: the first of them is the nested network."""

    nested: str
    teacher: str
    measured_at: str
    dense_flops: int
    classes: int
    dense: Contestant
    contestants: Sequence[Contestant]
    inputs: Any  # one prepared example, of the input that FLOPs are counted at
    network: str = ""  # what the nested network was made with
    notes: Sequence[str] = ()


def frontier(field: Field, room: Classroom, *, folder: Path, settings: FrontierConfig) -> Frontier:
    """Teach, answer and time all of the field; each network in a folder of its own.

    Killed or interrupted, the same call goes on; finished networks are read back.
    """
    dense = _hear(field.dense, room, folder)
    heard = [_hear(contestant, room, folder) for contestant in field.contestants]
    times = None
    if settings.repeats:
        everyone = (field.dense, *field.contestants)
        times = timed(everyone, field.inputs, room, folder=folder, settings=settings)
    curves = [one for one in heard if len(one.places) > 1]
    floor = common_floor([one.shares for one in curves]) if curves else 1.0
    reports = tuple(
        curve_of(one, dense, heard[0] if at else None, floor=floor, times=times)
        for at, one in enumerate(heard)
    )
    return Frontier(
        nested=field.nested,
        network=field.network,
        teacher=field.teacher,
        measured_at=field.measured_at,
        dense_flops=field.dense_flops,
        classes=field.classes,
        rows={name: len(labels) for name, labels in room.labels.items()},
        floor=floor,
        device=room.device,
        threads=times.threads if times else 0,
        dense=points_of(dense, dense, times)[0],
        curves=reports,
        picked=picked_of(heard[0], dense, settings.tolerance),
        seconds=sum(one.seconds for each in heard for one in each.answered),
        notes=(*field.notes, *_norms(room), *_notes(heard)),
    )


# --- answers --------------------------------------------------------------------------------------


def _hear(contestant: Contestant, room: Classroom, folder: Path) -> Heard:
    """All parts and seeds of a contestant, their points in one row."""
    found: list[list[Answers]] = []
    for seed in range(contestant.seeds):
        found.append([])
        for part in contestant.parts():
            name = f"{contestant.name}{f'-{part}' if part else ''}-s{seed}".replace(" ", "-")
            made_from = fingerprint(
                dict(room.made_by), asdict(room.recipe), name, contestant.made_by()
            )
            found[-1].append(
                answers_of(contestant, part, seed, room, folder / name, made_from=made_from)
            )
    places = [place for answers in found[0] for place in answers.answered.places]
    order = sorted(range(len(places)), key=lambda at: places[at].share)
    kept = [at for n, at in enumerate(order) if not n or _apart(places, order[n - 1], at)]
    hits = {
        split: np.stack(
            [
                np.concatenate([answers.predicted[split] for answers in of_seed])[kept]
                == labels[None]
                for of_seed in found
            ],
            axis=1,
        )
        for split, labels in room.labels.items()
        if split != "train"
    }
    return Heard(
        contestant=contestant,
        places=tuple(places[at] for at in kept),
        hits=hits,
        answered=tuple(answers.answered for of_seed in found for answers in of_seed),
    )


def _apart(places: Sequence[Place], before: int, at: int) -> bool:
    return places[at].share - places[before].share > SAME


def _norms(room: Classroom) -> Iterator[str]:
    if held_norms(room.dense).of:
        yield (
            "BatchNorm is measured on calibration rows at each budget of a network that has "
            "several; the dense network, and rivals of one setting, have what training left them"
        )


def _notes(heard: Sequence[Heard]) -> Iterator[str]:
    for one in heard:
        for note in dict.fromkeys(note for answered in one.answered for note in answered.notes):
            yield f"{one.contestant.name}: {note}"
