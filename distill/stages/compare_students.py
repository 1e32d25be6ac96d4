"""``compare-students``: ways to teach one network, tuned alike and judged on the same seeds.

Every way gets as many trials of a random search, judged on validation. What was chosen is written
down; only then does anything answer test rows: each finalist with the same fresh seeds. A way is
ahead or behind where a paired test over seeds and rows says so after Holm's correction for all the
ways that were tested.
"""

import dataclasses
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, final

import numpy as np
from jaxtyping import Bool, Int64

from distill.allocator import memory_kept
from distill.comparing.search import choose, draw
from distill.comparing.statistics import compare, holm, verdict, worst_class_over_seeds
from distill.config import CompareConfig, fingerprint
from distill.entrants import Answered, Entrant
from distill.errors import StageError, nearest
from distill.findings import Chosen, Comparison, Fixed, Versus, Way
from distill.identity import WAYS
from distill.lessons import Lesson
from distill.metrics import accuracy, some_band
from distill.progress import Progress, shortly
from distill.replacing import replacing
from students import plain_settings, same_settings

FIXED = "recipe.json"


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Ground:
    """What all are compared on."""

    lesson: Lesson
    network: str
    epochs: int
    rows: Mapping[str, int]
    labels: Int64[np.ndarray, " rows"]  # of the test rows
    teachers: Int64[np.ndarray, " rows"]  # what the full head says of them
    classes: Sequence[str]
    made_by: Mapping[str, Any]  # what every trial is made with
    left_out: Sequence[str] = ()  # who does not take part, and why


@memory_kept()
def fix_recipe(
    entrants: Sequence[Entrant],
    ground: Ground,
    *,
    folder: Path,
    settings: CompareConfig,
    progress: Progress,
    overwrite: bool = False,
) -> Fixed:
    """Search on validation rows and write down what was chosen; no student answers a test row.

    The first half of ``compare_students``, for who wants to publish the recipe before its result.
    ``StageError`` for a name in ``settings.always`` that is not compared.
    """
    names = [one.contender.name for one in entrants]
    for name in settings.always:
        if name not in names:
            raise StageError(f"compare.always: {name!r} is not compared{nearest(name, names)}")
    made_by = _made_by(ground, settings)
    with replacing(folder, wanted=overwrite, made_from=fingerprint(made_by)) as place:
        chosen = _searched(place, made_by, list(entrants), settings, progress)
        made_by = Fixed.load(place / FIXED).made_by  # with what is of ways that were asked before
    return Fixed(made_by=made_by, chosen=tuple(chosen[one.contender.name] for one in entrants))


@memory_kept()
def compare_students(
    entrants: Sequence[Entrant],
    ground: Ground,
    *,
    folder: Path,
    settings: CompareConfig,
    progress: Progress,
    overwrite: bool = False,
) -> Comparison:
    """Search, fix the choices, teach with fresh seeds, and compare with the reference.

    Trainings are folders ``<name>/trial-<t>`` and ``<name>/seed-<s>``, each with a record written
    last; what is killed goes on, what is finished is read back. ``recipe.json`` holds what was
    chosen: with it there, nothing is searched again, and other settings raise
    ``CheckpointError``, unless ``overwrite`` begins all anew: what is there stays until that is
    done.
    """
    made_from = fingerprint(_made_by(ground, settings))
    with replacing(folder, wanted=overwrite, made_from=made_from) as place:
        fixed = fix_recipe(entrants, ground, folder=place, settings=settings, progress=progress)
        chosen = {one.name: one for one in fixed.chosen}
        finalists = _finalists(entrants, chosen, settings)
        answers = _taught(place, finalists, chosen, settings, progress)
        ways = [
            _way(entrant, chosen[entrant.contender.name], answers, ground, place, progress)
            for entrant in entrants
        ]
    return Comparison(
        reference=settings.reference,
        target=ground.lesson.target,
        digest=ground.lesson.targets["train"].digest,
        network=ground.network,
        classes=len(ground.classes),
        rows=dict(ground.rows),
        epochs=ground.epochs,
        trials=settings.trials,
        seeds=settings.seeds,
        teacher_accuracy=accuracy(ground.labels, ground.teachers),
        ways=tuple(_with_tests(ways, answers, ground.labels, settings.reference)),
        seconds=sum(one.trained_seconds for way in ways for one in way.seeds),
        notes=tuple(ground.left_out),
    )


def _made_by(ground: Ground, settings: CompareConfig) -> dict[str, Any]:
    """What every trial is made with."""
    return plain_settings({**ground.made_by, "trials": settings.trials, "seed": settings.seed})


def _common(made_by: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in made_by.items() if name != WAYS}


# --- the search -----------------------------------------------------------------------------------


def _searched(
    folder: Path,
    made_by: dict[str, Any],
    entrants: Sequence[Entrant],
    settings: CompareConfig,
    progress: Progress,
) -> dict[str, Chosen]:
    """What was chosen for each, from the recipe or by a search that the recipe then remembers."""
    path = folder / FIXED
    earlier: tuple[Chosen, ...] = ()
    if path.is_file():
        fixed = Fixed.load(path)
        what = f"the recipe {path}"
        same_settings(_common(made_by), _common(fixed.made_by), what=what)
        now, then = made_by.get(WAYS, {}), fixed.made_by.get(WAYS, {})
        for name in now.keys() & then.keys():
            same_settings(now[name], then[name], what=f"{name} in {what}")
        made_by = {**made_by, WAYS: {**then, **now}}
        earlier = fixed.chosen
    known = {one.name: one for one in earlier}
    missing = [one for one in entrants if one.contender.name not in known]
    clock = _Clock(progress, total=len(missing) * settings.trials)
    for entrant in missing:
        known[entrant.contender.name] = _best(folder, entrant, settings, clock)
    if missing:
        Fixed(made_by=made_by, chosen=tuple(known.values())).save(path)
    return known


def _best(folder: Path, entrant: Entrant, settings: CompareConfig, clock: "_Clock") -> Chosen:
    contender, defaults, trials = entrant.contender, entrant.defaults(), []
    for number in range(settings.trials):
        drawn = draw(contender.space, defaults, trial=number, seed=settings.seed)
        told = f"{contender.name}, trial {number + 1} of {settings.trials}"
        with clock.training(told):
            where = folder_of(folder, contender.name) / f"trial-{number}"
            trials.append(entrant.try_out(number, drawn, where))
    best = choose(trials)
    return Chosen(
        name=contender.name,
        trial=best.number,
        settings=best.settings,
        accuracy=best.accuracy,
        loss=best.loss,
    )


def folder_of(folder: Path, name: str) -> Path:
    """Where the trainings of a way lie: a colon is no part of a file's name everywhere."""
    return folder / name.replace(":", "-")


# --- fresh seeds ----------------------------------------------------------------------------------


def _finalists(
    entrants: Sequence[Entrant], chosen: Mapping[str, Chosen], settings: CompareConfig
) -> list[Entrant]:
    """The best on validation; the reference and those of ``always`` whatever their place."""
    most = settings.finalists
    if not most:
        return list(entrants)
    order = sorted(entrants, key=lambda one: -chosen[one.contender.name].accuracy)
    kept = {one.contender.name for one in order[:most]} | {
        settings.reference,
        *settings.always,
    }
    return [one for one in entrants if one.contender.name in kept]


def _taught(
    folder: Path,
    finalists: Sequence[Entrant],
    chosen: Mapping[str, Chosen],
    settings: CompareConfig,
    progress: Progress,
) -> dict[str, list[Answered]]:
    """The answers of every finalist, seed by seed: 1, 2, … as seed 0 was searched with."""
    answers: dict[str, list[Answered]] = {}
    clock = _Clock(progress, total=len(finalists) * settings.seeds)
    for entrant in finalists:
        name = entrant.contender.name
        for seed in range(1, settings.seeds + 1):
            with clock.training(f"{name}, seed {seed} of {settings.seeds}"):
                where = folder_of(folder, name) / f"seed-{seed}"
                found = entrant.teach(seed, chosen[name].settings, where)
                answers.setdefault(name, []).append(found)
    return answers


# --- what came of it ------------------------------------------------------------------------------


def _way(
    entrant: Entrant,
    chosen: Chosen,
    answers: Mapping[str, Sequence[Answered]],
    ground: Ground,
    folder: Path,
    progress: Progress,
) -> Way:
    contender = entrant.contender
    way = Way(name=contender.name, about=contender.about, chosen=chosen)
    if contender.name not in answers:
        return way
    mine = answers[contender.name]
    scores = [one.score for one in mine]
    worst, share = worst_class_over_seeds(ground.labels, _predicted(mine))
    place = folder_of(folder, contender.name)
    progress.detail(f"{contender.name}: weighing its student")
    return dataclasses.replace(
        way,
        seeds=tuple(scores),
        accuracy=some_band([one.accuracy for one in scores]),
        agreement=some_band([one.agreement for one in scores]),
        recall=some_band([one.recall for one in scores]),
        steps=some_band([one.steps for one in scores]),
        seconds=some_band([one.seconds for one in scores]),
        loss=some_band([one.loss for one in scores]),
        worst_class=ground.classes[worst],
        worst_class_accuracy=share,
        shipped=entrant.ship(
            chosen.settings, {one.seed: place / f"seed-{one.seed}" for one in scores}, place
        ),
    )


def _with_tests(
    ways: Sequence[Way],
    answers: Mapping[str, Sequence[Answered]],
    labels: np.ndarray,
    reference: str,
) -> Iterator[Way]:
    """Each way beside the reference; p is adjusted for all that were tested."""
    tested = [way.name for way in ways if way.name in answers and way.name != reference]
    theirs = _hits(answers[reference], labels)
    found = {name: compare(_hits(answers[name], labels), theirs) for name in tested}
    adjusted = dict(zip(tested, holm([one.p for one in found.values()]), strict=True))
    for way in ways:
        if way.name not in found:
            yield way
            continue
        one = found[way.name]
        versus = Versus(
            against=reference,
            value=one.value,
            interval=one.interval,
            p=one.p,
            adjusted=adjusted[way.name],
            verdict=verdict(one.value, adjusted[way.name]),
        )
        yield dataclasses.replace(way, versus=versus)


def _predicted(answers: Iterable[Answered]) -> Int64[np.ndarray, "seeds rows"]:
    return np.stack([one.predicted for one in answers])


def _hits(answers: Iterable[Answered], labels: np.ndarray) -> Bool[np.ndarray, "seeds rows"]:
    found: np.ndarray = _predicted(answers) == labels
    return found


class _Clock:
    """Says which training comes, and about how long all that are left will take."""

    def __init__(self, progress: Progress, *, total: int) -> None:
        self._progress = progress
        self._total = total
        self._begun = 0
        self._taken: list[float] = []  # of trainings that were not there already

    @contextmanager
    def training(self, told: str) -> Iterator[None]:
        """One training; what takes no time was finished before and tells nothing of the rest."""
        left = self._total - self._begun
        self._begun += 1
        known = (
            f", about {shortly(statistics.mean(self._taken) * left)} left" if self._taken else ""
        )
        self._progress.say(f"{told} (training {self._begun} of {self._total}{known})")
        start = perf_counter()
        yield
        taken = perf_counter() - start
        if taken > 1.0:
            self._taken.append(taken)
