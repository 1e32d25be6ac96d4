"""Who takes part in a comparison: how each is tried out, taught with a fresh seed, and weighed.

A training is a folder; its record is written last and names what it was made with. So whatever is
killed goes on when it is called again, and what is finished is read back.
"""

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Protocol, final, runtime_checkable

import numpy as np
from jaxtyping import Int64
from torch import Tensor, nn

from distill.comparing.barrier import loss_barrier
from distill.comparing.contenders import (
    FEATURES,
    LABELS,
    LOGITS,
    TARGETS,
    Contender,
)
from distill.comparing.folding import saved_by_folding
from distill.comparing.search import Settings
from distill.comparing.space import Gallery, crossed
from distill.comparing.statistics import reached
from distill.config import StudentConfig, fingerprint
from distill.desk import Pupil
from distill.findings import Cost, SeedScore, Shipped, Trial
from distill.lessons import Matched
from distill.progress import Progress
from distill.runs import recall, remember
from distill.schooling import PREDICTIONS, School
from distill.stored import blocks
from stores import StoreSpec
from students import DivergedError, evaluate_logits, forward_rows, read_tensors

TRIAL, SEED, SHIPPED = "trial.json", "seed.json", "shipped.json"
METRICS = "metrics.jsonl"
SEARCHED = 0  # the seed of every trial; fresh ones begin after it
LABEL_BYTES = 8  # a stored label is int64
CLASS_BYTES = 2  # which class a stored chance is of
STATISTICS_ROWS, STATISTICS_BATCH = 512, 64  # training rows that BatchNorm is measured on

Measure = Callable[[nn.Module, Mapping[str, Tensor]], Cost]


class Answered(NamedTuple):
    """A seed's record, and the class it says each test row is of."""

    score: SeedScore
    predicted: Int64[np.ndarray, " rows"]


@runtime_checkable
class Entrant(Protocol):
    """One way to teach, with everything it needs at hand."""

    @property
    def contender(self) -> Contender:
        """What it is called and what of it is searched."""
        ...

    def defaults(self) -> Settings:
        """The settings of its first trial."""
        ...

    def try_out(self, number: int, drawn: Settings, folder: Path) -> Trial:
        """Train with the settings of a trial; of test nothing is read."""
        ...

    def teach(self, seed: int, drawn: Settings, folder: Path) -> Answered:
        """Train with a fresh seed, and answer the test rows."""
        ...

    def ship(self, drawn: Settings, folders: Mapping[int, Path], place: Path) -> Shipped:
        """What its students cost; ``folders`` are those of finished seeds."""
        ...


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Network:
    """A way to teach the student's network, in a school that aims at its store."""

    contender: Contender
    school: School
    settings: StudentConfig  # the comparison's; its own are over them
    measure: Measure

    def defaults(self) -> Settings:
        """Its authors' settings, or those of the config."""
        whole = self.settings.model_dump() | self.contender.defaults
        return {name: whole[name] for name in self.contender.space}

    def try_out(self, number: int, drawn: Settings, folder: Path) -> Trial:
        """As ``Entrant`` says; what diverges has lost, and is no reason to stop."""
        method, settings = self.contender.method, self._whole(drawn, SEARCHED)
        made_from = fingerprint(self.school.made_by(method, settings))
        earlier = recall(folder / TRIAL, Trial, made_from=made_from)
        if earlier is not None:
            return earlier
        try:
            result = self._named.learn(method, settings, folder).result
            found = Trial(
                number=number,
                settings=drawn,
                accuracy=result.best.accuracy,
                loss=result.best.loss,
                seconds=result.seconds,
            )
        except DivergedError as error:
            self.school.progress.say(f"{self.contender.name}, trial {number}: {error}")
            found = Trial(number=number, settings=drawn, accuracy=0.0, loss=None, seconds=0.0)
        remember(folder / TRIAL, found, made_from=made_from)
        return found

    def teach(self, seed: int, drawn: Settings, folder: Path) -> Answered:
        """As ``Entrant`` says."""
        method, settings = self.contender.method, self._whole(drawn, seed)
        made_from = fingerprint(self.school.made_by(method, settings))
        student = self._named.teach(method, settings, folder)
        tensors, _ = read_tensors(folder / PREDICTIONS)
        predicted = tensors["predicted"].numpy()
        earlier = recall(folder / SEED, SeedScore, made_from=made_from)
        if earlier is not None:
            return Answered(earlier, predicted)
        history = [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]
        near = reached(history)
        found = SeedScore(
            seed=seed,
            accuracy=student.test.accuracy,
            agreement=student.agreement or 0.0,
            recall=self._recall(settings, folder),
            steps=float(near.step) if near else None,
            seconds=near.seconds if near else None,
            loss=float(history[-1]["loss"]) if history else None,
            trained_seconds=student.seconds,
        )
        remember(folder / SEED, found, made_from=made_from)
        return Answered(found, predicted)

    def ship(self, drawn: Settings, folders: Mapping[int, Path], place: Path) -> Shipped:
        """As ``Entrant`` says; the barrier is between the first two seeds."""
        method = self.contender.method
        wholes = {seed: self._whole(drawn, seed) for seed in folders}
        made_from = fingerprint([self.school.made_by(method, one) for one in wholes.values()])
        earlier = recall(place / SHIPPED, Shipped, made_from=made_from)
        if earlier is not None:
            return earlier
        pupils = [
            self.school.reopen(method, wholes[seed], folders[seed]) for seed in list(folders)[:2]
        ]
        student, school = pupils[0].student, self.school
        one = school.lesson.prepare([school.dataset.splits["train"].inputs[0]])
        cost = self.measure(student, one)
        numbers, adds = saved_by_folding(student)
        found = Shipped(
            stored_bytes=self._stored(wholes[next(iter(folders))]),
            parameters=cost.parameters - numbers,
            multiply_adds=cost.multiply_adds - adds,
            latency=cost.latencies[0].seconds,
            barrier=self._barrier(*pupils) if len(pupils) > 1 else None,
            notes=cost.notes,
        )
        remember(place / SHIPPED, found, made_from=made_from)
        return found

    def _whole(self, drawn: Settings, seed: int) -> StudentConfig:
        return self.settings.model_copy(update={**self.contender.defaults, **drawn, "seed": seed})

    @cached_property
    def _named(self) -> School:
        """The school, which says whose trial or seed it tells of."""
        return replace(self.school, progress=_Named(self.contender.name, self.school.progress))

    def _recall(self, settings: StudentConfig, folder: Path) -> float | None:
        if not self.contender.in_space or settings.projector:
            return None
        school, (train, test) = self.school, (self.school.splits[s] for s in ("train", "test"))
        rows = school.rows(school.reopen(self.contender.method, settings, folder), "test")
        own = _all_rows(test)
        gallery = Gallery(_all_rows(train), train.ids, train.labels)
        return crossed(gallery, Gallery(rows, test.ids, test.labels), own).recall

    def _stored(self, settings: StudentConfig) -> int:
        """Bytes that a training example takes of the store: of all views, and its label."""
        train = self.school.material(settings)
        classes = len(self.school.lesson.full_head.bias)
        takes = set(self.contender.takes)
        if self.contender.in_space and settings.ce_weight:
            takes.add(LABELS)
        features = train.parts[0].features.spec
        number = int(np.dtype(features.dtype).itemsize)  # a logit is kept like a feature
        top = settings.top_logits if settings.top_logits < classes else 0
        each = {
            TARGETS: _row_bytes(train.parts[0].targets.spec),
            FEATURES: _row_bytes(features),
            LOGITS: top * (number + CLASS_BYTES) if top else classes * number,
        }
        viewed = sum(each[name] for name in takes if name in each)
        return viewed * max(train.views, 1) + (LABEL_BYTES if LABELS in takes else 0)

    def _barrier(self, first: Pupil, second: Pupil) -> float:
        validation, device = self.school.splits["validation"], self.school.device

        def evaluate(network: nn.Module) -> float:
            logits = forward_rows(network, self.school.feed("validation"), device=device)
            return evaluate_logits(logits, validation.labels).loss

        batches = list(self._statistics_batches())
        return loss_barrier(
            lambda: copy.deepcopy(first.student),
            copy.deepcopy(first.student.state_dict()),
            second.student.state_dict(),
            batches=lambda: batches,
            evaluate=evaluate,
        )

    def _statistics_batches(self) -> Iterator[dict[str, Tensor]]:
        """Some training inputs, prepared: spread over the split."""
        train, school = self.school.splits["train"], self.school
        some = np.linspace(0, len(train.ids) - 1, num=min(STATISTICS_ROWS, len(train.ids)))
        rows = [int(row) for row in some]
        for start in range(0, len(rows), STATISTICS_BATCH):
            batch = [train.inputs[row] for row in rows[start : start + STATISTICS_BATCH]]
            if len(batch) > 1:  # BatchNorm cannot be measured on one row
                prepared = school.lesson.prepare(batch)
                yield {name: tensor.to(school.device) for name, tensor in prepared.items()}


def _row_bytes(spec: StoreSpec) -> int:
    return spec.dim * int(np.dtype(spec.dtype).itemsize)


def _all_rows(part: Matched) -> np.ndarray:
    return np.concatenate(list(blocks(part.targets)))


@final
@dataclass(frozen=True)
class _Named:
    """Progress that says whose it is."""

    name: str
    progress: Progress

    def task(
        self, label: str, *, total: int, unit: str
    ) -> AbstractContextManager[Callable[[int], None]]:
        """Open a bar under the name."""
        return self.progress.task(f"{self.name} {label}", total=total, unit=unit)

    def say(self, text: str) -> None:
        """What a school says of a single student is a detail here."""
        self.progress.detail(f"{self.name}: {text}")

    def detail(self, text: str) -> None:
        """One line under the name."""
        self.progress.detail(f"{self.name}: {text}")
