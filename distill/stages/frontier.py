"""``frontier``: what accuracy costs in FLOPs and in time, for a nested network and its rivals.

Every network is taught, or read back, and answers the validation and the test rows once, at all of
its budgets; then all are timed in turn. What is picked is picked on validation.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Bool

from distill.certify import certify, losses
from distill.comparing.statistics import compare
from distill.config import FrontierConfig, fingerprint
from distill.contest import Answered, Answers, Class, Contestant, Place, Runner, answers_of
from distill.findings import (
    Difference,
    Frontier,
    FrontierCurve,
    FrontierPoint,
    Interval,
    Latency,
    Picked,
    Record,
)
from distill.frontiers import area_behind, areas, common_floor, falls, pick
from distill.metrics import band, wilson_interval
from distill.runs import recall, remember
from distill.stopwatch import interleaved

TIMES = "times.json"
_SAME = 1e-6  # of a share

Hits = Bool[np.ndarray, "points seeds rows"]


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
    notes: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Timing(Record):
    """Median seconds of a call of one network at one spot."""

    name: str
    share: float
    batch: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Times(Record):
    """All timings of one field, measured in turn."""

    timings: tuple[Timing, ...]
    device: str
    threads: int  # 0 where they do not count


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class _Heard:
    """All answers of one contestant: places from the smallest share up, hits by split."""

    contestant: Contestant
    places: tuple[Place, ...]
    hits: Mapping[str, Hits]
    answered: tuple[Answered, ...]

    @property
    def shares(self) -> list[float]:
        return [place.share for place in self.places]


def frontier(field: Field, room: Class, *, folder: Path, settings: FrontierConfig) -> Frontier:
    """Teach, answer and time all of the field; each network in a folder of its own.

    Killed or interrupted, the same call goes on; finished networks are read back.
    """
    dense = _hear(field.dense, room, folder)
    heard = [_hear(contestant, room, folder) for contestant in field.contestants]
    times = _times(field, room, folder, settings) if settings.repeats else None
    curves = [one for one in heard if len(one.places) > 1]
    floor = common_floor([one.shares for one in curves]) if curves else 1.0
    ours = _closed(heard[0], dense, "test")
    reports = tuple(
        _curve(one, dense, ours if at else None, floor=floor, times=times)
        for at, one in enumerate(heard)
    )
    return Frontier(
        nested=field.nested,
        teacher=field.teacher,
        measured_at=field.measured_at,
        dense_flops=field.dense_flops,
        classes=field.classes,
        rows={name: len(labels) for name, labels in room.labels.items()},
        floor=floor,
        device=room.device,
        threads=times.threads if times else 0,
        dense=_points(dense, dense, times)[0],
        curves=reports,
        picked=_picked(heard[0], dense, settings.tolerance),
        seconds=sum(one.seconds for each in heard for one in each.answered),
        notes=(*field.notes, *_notes(heard)),
    )


# --- answers --------------------------------------------------------------------------------------


def _hear(contestant: Contestant, room: Class, folder: Path) -> _Heard:
    """All parts and seeds of a contestant, their points in one row."""
    found: list[list[Answers]] = []
    for seed in range(contestant.seeds):
        found.append([])
        for part in contestant.parts():
            name = f"{contestant.name}{f'-{part}' if part else ''}-s{seed}".replace(" ", "-")
            made_from = fingerprint(dict(room.made_by), name, contestant.made_by())
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
    return _Heard(
        contestant=contestant,
        places=tuple(places[at] for at in kept),
        hits=hits,
        answered=tuple(answers.answered for of_seed in found for answers in of_seed),
    )


def _apart(places: Sequence[Place], before: int, at: int) -> bool:
    return places[at].share - places[before].share > _SAME


def _notes(heard: Sequence[_Heard]) -> Iterator[str]:
    for one in heard:
        for note in dict.fromkeys(note for answered in one.answered for note in answered.notes):
            yield f"{one.contestant.name}: {note}"


# --- curves ---------------------------------------------------------------------------------------


def _closed(one: _Heard, dense: _Heard, split: str) -> tuple[list[float], Hits]:
    """Shares and hits up to 1: the dense network stands there where nothing else does."""
    hits, shares = one.hits[split], one.shares
    if shares[-1] >= 1 - _SAME:
        return [*shares[:-1], 1.0], hits
    there = np.repeat(dense.hits[split], hits.shape[1], axis=1)
    return [*shares, 1.0], np.concatenate([hits, there])


def _curve(
    one: _Heard,
    dense: _Heard,
    ours: tuple[list[float], Hits] | None,
    *,
    floor: float,
    times: Times | None,
) -> FrontierCurve:
    points = _points(one, dense, times)
    several = len(points) > 1
    closed = _closed(one, dense, "test")
    behind = area_behind(closed, ours, floor=floor, name="nested") if several and ours else None
    return FrontierCurve(
        name=one.contestant.name,
        about=one.contestant.about,
        seeds=one.contestant.seeds,
        trainings=sum(answered.updates > 0 for answered in one.answered),
        updates=max(answered.updates for answered in one.answered),
        points=points,
        area=band(areas(*closed, floor).tolist()) if several else None,
        behind=behind,
        falls=falls(one.shares, [p.accuracy.mean for p in points]) if several else None,
    )


def _points(one: _Heard, dense: _Heard, times: Times | None) -> tuple[FrontierPoint, ...]:
    return tuple(
        FrontierPoint(
            budget=place.budget,
            share=place.share,
            parameters=place.parameters,
            trained=place.trained,
            accuracy=band(one.hits["test"][at].mean(axis=1).tolist()),
            interval=_over_rows(one.hits["test"][at]),
            difference=_difference(one.hits["test"][at], dense.hits["test"][0]),
            validation_accuracy=float(one.hits["validation"][at].mean()),
            latencies=_latencies(times, one.contestant.name, place.share),
        )
        for at, place in enumerate(one.places)
    )


def _over_rows(hits: Bool[np.ndarray, "seeds rows"]) -> Interval:
    rows = hits.shape[1]
    return wilson_interval(round(float(hits.mean()) * rows), rows)


def _difference(
    ours: Bool[np.ndarray, "seeds rows"], dense: Bool[np.ndarray, "one rows"]
) -> Difference:
    """To the dense network, over seeds and rows."""
    theirs = np.repeat(dense, len(ours), axis=0)
    if np.array_equal(ours, theirs):
        return Difference(against="dense", value=0.0, interval=Interval(low=0.0, high=0.0))
    found = compare(ours, theirs)
    return Difference(against="dense", value=found.value, interval=found.interval)


def _picked(one: _Heard, dense: _Heard, tolerance: float) -> Picked:
    """Chosen on validation; what the test rows say of the same budget stands beside it."""
    choice = pick(
        dense.hits["validation"][0, 0], one.hits["validation"], one.shares, tolerance=tolerance
    )
    at = len(one.places) - 1 if choice.shown is None else choice.shown
    place = None if choice.shown is None else one.places[choice.shown]
    lost = losses(dense.hits["test"][0, 0], one.hits["test"][at])
    return Picked(
        tolerance=tolerance,
        budget=place.budget if place else None,
        share=place.share if place else None,
        validation=choice.certificates[at],
        test=certify(lost, tolerance=tolerance),
        estimated=None if choice.estimated is None else one.shares[choice.estimated],
    )


# --- time -----------------------------------------------------------------------------------------


def _latencies(times: Times | None, name: str, share: float) -> tuple[Latency, ...]:
    if times is None:
        return ()
    return tuple(
        Latency(batch=one.batch, seconds=one.seconds, device=times.device)
        for one in times.timings
        if one.name == name and abs(one.share - share) <= _SAME
    )


def _times(field: Field, room: Class, folder: Path, settings: FrontierConfig) -> Times:
    """Time every network that has layers of its own, all in turn; read back where that was done."""
    timed = [one for one in (field.dense, *field.contestants) if one.timed]
    threads = torch.get_num_threads() if room.device == "cpu" else 0
    made_from = fingerprint(
        dict(room.made_by), [(one.name, one.made_by()) for one in timed], room.device, threads,
        settings.model_dump(include={"batches", "repeats"}),
    )  # fmt: skip
    earlier = recall(folder / TIMES, Times, made_from=made_from)
    if earlier is not None:
        return earlier
    room.progress.say("all networks are timed in turn")
    runners = [(one.name, one.runner(part, 0)) for one in timed for part in one.parts()]
    timings: list[Timing] = []
    for batch in settings.batches:
        inputs = _batch(field.inputs, batch, room.device)
        calls = {
            (name, spot.share): _call(runner, spot.setting, inputs, room.device)
            for name, runner in runners
            for spot in runner.spots
        }
        for _, runner in runners:
            runner.network.to(room.device).eval()
            runner.prepare(runner.network, [spot.setting for spot in runner.spots])
        with torch.inference_mode():
            found = interleaved(calls, repeats=settings.repeats, seconds=settings.seconds)
        timings += [
            Timing(name=name, share=share, batch=batch, seconds=seconds)
            for (name, share), seconds in found.items()
        ]
    times = Times(timings=tuple(timings), device=room.device, threads=threads)
    remember(folder / TIMES, times, made_from=made_from)
    return times


def _call(runner: Runner, setting: Any, inputs: Any, device: str) -> Any:
    def ready() -> None:
        runner.choose(runner.network, setting)

    def call() -> None:
        runner.network(inputs)
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)

    return ready, call


def _batch(inputs: Mapping[str, torch.Tensor], batch: int, device: str) -> dict[str, torch.Tensor]:
    return {
        name: tensor[torch.arange(batch) % len(tensor)].to(device)
        for name, tensor in inputs.items()
    }
