"""From what a contestant said of windows to its curve: perplexities, differences, and the pick."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float64

from distill.contest import Contestant
from distill.contest_answers import Answers, Place
from distill.contest_curves import SAME, Times, latencies_of
from distill.findings import Interval, LanguageCurve, LanguagePick, LanguagePoint
from distill.frontiers import rows_behind
from distill.language import AGREED, DIVERGENCE, RIGHT, SURPRISE
from distill.metrics import band

Surprises = Float64[np.ndarray, "seeds windows"]


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Heard:
    """What one contestant said: places from the smallest share up; (places, seeds, windows, 4)."""

    contestant: Contestant
    places: tuple[Place, ...]
    figures: Mapping[str, np.ndarray]
    answers: tuple[Answers, ...]


def notes_of(heard: Sequence[Heard]) -> list[str]:
    """What their trainings noted, each once, after the name of who did."""
    told = [
        (one.contestant.name, n) for one in heard for a in one.answers for n in a.answered.notes
    ]
    return [f"{name}: {note}" for name, note in dict.fromkeys(told)]


def curve_of(one: Heard, dense: Heard, nested: Heard | None, times: Times | None) -> LanguageCurve:
    """All its points, beside the dense model and, of rivals, beside the nested network."""
    return LanguageCurve(
        name=one.contestant.name,
        about=one.contestant.about,
        seeds=one.contestant.seeds,
        trainings=sum(answers.answered.updates > 0 for answers in one.answers),
        updates=max(answers.answered.updates for answers in one.answers),
        points=points_of(one, dense, nested, times),
    )


def points_of(
    one: Heard, dense: Heard, nested: Heard | None, times: Times | None
) -> tuple[LanguagePoint, ...]:
    """What its test windows say at each of its places."""
    found = []
    full = dense.figures["test"][0, :, :, SURPRISE]
    for place, said in zip(one.places, one.figures["test"], strict=True):
        surprises = said[..., SURPRISE]
        theirs = None if nested is None else _paid(nested, place.share)
        found.append(
            LanguagePoint(
                budget=place.budget,
                share=place.share,
                parameters=place.parameters,
                trained=place.trained,
                surprise=band(surprises.mean(axis=1).tolist()),
                interval=apart(surprises, np.zeros_like(surprises[:1])),
                divergence=float(said[..., DIVERGENCE].mean()),
                accuracy=float(said[..., RIGHT].mean()),
                agreement=float(said[..., AGREED].mean()),
                rise=apart(surprises, full),
                behind=None if theirs is None else apart(surprises, theirs),
                latencies=latencies_of(times, one.contestant.name, place.share),
            )
        )
    return tuple(found)


def _paid(nested: Heard, share: float) -> Surprises | None:
    """The nested network's surprises where it takes no more FLOPs; None below its floor."""
    below = [at for at, place in enumerate(nested.places) if place.share <= share + SAME]
    return nested.figures["test"][below[-1], :, :, SURPRISE] if below else None


def apart(ours: Surprises, theirs: Float64[np.ndarray, "others windows"]) -> Interval:
    """Of the mean difference, windows in pairs, 95 %: over windows, and over seeds beside them.

    Student's over windows is too sure of a few seeds, and variances added up (``rows_behind``) of
    a few windows: the wider of the two.
    """
    over = band((ours.mean(axis=0) - theirs.mean(axis=0)).tolist())
    alone = over.interval or Interval(low=over.mean, high=over.mean)
    both = rows_behind(ours, theirs, name="").interval
    return both if both.high - both.low > alone.high - alone.low else alone


def picked_of(nested: Heard, dense: Heard, tolerance: float) -> LanguagePick:
    """From the largest budget down, as long as each is shown to be within the tolerance."""
    within = float(np.log1p(tolerance))
    rises = {
        split: [
            apart(said[..., SURPRISE], dense.figures[split][0, :, :, SURPRISE])
            for said in nested.figures[split]
        ]
        for split in ("validation", "test")
    }
    at = None
    for place in reversed(range(len(nested.places))):
        if rises["validation"][place].high > within:
            break
        at = place
    shown = len(nested.places) - 1 if at is None else at
    return LanguagePick(
        tolerance=tolerance,
        share=None if at is None else nested.places[at].share,
        validation=rises["validation"][shown],
        test=rises["test"][shown],
    )
