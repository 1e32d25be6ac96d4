"""From what a contestant answered to its curve: accuracies, differences, areas, and the pick."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Bool

from distill.certify import certify, losses
from distill.comparing.statistics import compare
from distill.contest import Contestant
from distill.contest_answers import Answered, Place
from distill.findings import (
    Difference,
    FrontierCurve,
    FrontierPoint,
    Interval,
    Latency,
    Picked,
    Record,
)
from distill.frontiers import area_behind, areas, falls, pick, rows_behind
from distill.metrics import band, wilson_interval

SAME = 1e-6  # of a share

Hits = Bool[np.ndarray, "points seeds rows"]


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
class Heard:
    """All answers of one contestant: places from the smallest share up, hits by split."""

    contestant: Contestant
    places: tuple[Place, ...]
    hits: Mapping[str, Hits]
    answered: tuple[Answered, ...]

    @property
    def shares(self) -> list[float]:
        """Of dense FLOPs, rising."""
        return [place.share for place in self.places]


def closed(one: Heard, dense: Heard, split: str) -> tuple[list[float], Hits]:
    """Shares and hits up to 1: the dense network stands there where nothing else does."""
    hits, shares = one.hits[split], one.shares
    if shares[-1] >= 1 - SAME:
        return [*shares[:-1], 1.0], hits
    there = np.repeat(dense.hits[split], hits.shape[1], axis=1)
    return [*shares, 1.0], np.concatenate([hits, there])


def curve_of(
    one: Heard, dense: Heard, nested: Heard | None, *, floor: float, times: Times | None
) -> FrontierCurve:
    """The curve of a contestant beside the nested network's, which is None for itself."""
    points = points_of(one, dense, times, nested=nested)
    several = len(points) > 1
    whole = closed(one, dense, "test")
    behind = None
    if several and nested:
        ours = closed(nested, dense, "test")
        behind = area_behind(whole, ours, floor=floor, name=nested.contestant.name)
    return FrontierCurve(
        name=one.contestant.name,
        about=one.contestant.about,
        seeds=one.contestant.seeds,
        trainings=sum(answered.updates > 0 for answered in one.answered),
        updates=max(answered.updates for answered in one.answered),
        points=points,
        area=band(areas(*whole, floor).tolist()) if several else None,
        behind=behind,
        falls=falls(one.shares, [p.accuracy.mean for p in points]) if several else None,
    )


def points_of(
    one: Heard, dense: Heard, times: Times | None, *, nested: Heard | None = None
) -> tuple[FrontierPoint, ...]:
    """All its points, each with its difference to the dense network, and to the nested one."""
    return tuple(
        FrontierPoint(
            budget=place.budget,
            share=place.share,
            parameters=place.parameters,
            trained=place.trained,
            accuracy=band(one.hits["test"][at].mean(axis=1).tolist()),
            interval=_over_rows(one.hits["test"][at]),
            difference=_difference(one.hits["test"][at], dense.hits["test"][0]),
            behind=_behind(one.hits["test"][at], place.share, nested) if nested else None,
            validation_accuracy=float(one.hits["validation"][at].mean()),
            latencies=latencies_of(times, one.contestant.name, place.share),
        )
        for at, place in enumerate(one.places)
    )


def _behind(hits: Bool[np.ndarray, "seeds rows"], share: float, nested: Heard) -> Difference | None:
    """Accuracy less the nested network's where it takes no more FLOPs; None below its floor."""
    below = [at for at, other in enumerate(nested.shares) if other <= share + SAME]
    if not below:
        return None
    theirs = nested.hits["test"][below[-1]]
    mine, others = (side.astype(np.float64) for side in (hits, theirs))
    return rows_behind(mine, others, name=nested.contestant.name)


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


def picked_of(one: Heard, dense: Heard, tolerance: float) -> Picked:
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


def latencies_of(times: Times | None, name: str, share: float) -> tuple[Latency, ...]:
    """What was timed of a network at a share."""
    if times is None:
        return ()
    return tuple(
        Latency(batch=one.batch, seconds=one.seconds, device=times.device)
        for one in times.timings
        if one.name == name and abs(one.share - share) <= SAME
    )
