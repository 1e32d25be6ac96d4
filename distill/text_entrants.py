"""Entrants for text that train no network: fitted at once, alike for every seed."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Int64

from distill.comparing.contenders import Contender
from distill.comparing.search import Settings
from distill.comparing.text import TextClassifier, plain_texts
from distill.config import fingerprint
from distill.entrants import LABEL_BYTES, SEARCHED, SEED, SHIPPED, TRIAL, Answered
from distill.findings import SeedScore, Shipped, Trial
from distill.lessons import Matched
from distill.metrics import accuracy
from distill.runs import recall, remember
from distill.schooling import PREDICTIONS
from students import evaluate_logits, read_tensors, write_tensors

CALLS = 30  # of which the median is a latency


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Texts:
    """A rival that is fitted at once, and draws nothing: all its seeds are alike."""

    contender: Contender
    splits: Mapping[str, Matched]
    made_by: Mapping[str, Any]  # the data, and what else its vectors come from
    teachers: Int64[np.ndarray, " rows"]  # what the full head says of the test rows
    fit: Callable[..., TextClassifier]  # of texts and labels, with ``settings``
    # the last one fitted, and the seconds it took
    _kept: dict[str, tuple[TextClassifier, float]] = field(default_factory=dict)

    def defaults(self) -> Settings:
        """As ``Entrant`` says."""
        return dict(self.contender.defaults)

    def try_out(self, number: int, drawn: Settings, folder: Path) -> Trial:
        """As ``Entrant`` says."""
        made_from = self._made_from(drawn)
        earlier = recall(folder / TRIAL, Trial, made_from=made_from)
        if earlier is not None:
            return earlier
        labels = self.splits["validation"].labels
        fitted, seconds = self._fitted(drawn)
        found = evaluate_logits(fitted.logits(self._texts("validation")), labels)
        trial = Trial(
            number=number,
            settings=drawn,
            accuracy=found.accuracy,
            loss=found.loss,
            seconds=seconds,
        )
        remember(folder / TRIAL, trial, made_from=made_from)
        return trial

    def teach(self, seed: int, drawn: Settings, folder: Path) -> Answered:
        """As ``Entrant`` says."""
        made_from = self._made_from(drawn, seed)
        earlier = recall(folder / SEED, SeedScore, made_from=made_from)
        if earlier is not None:
            tensors, _ = read_tensors(folder / PREDICTIONS)
            return Answered(earlier, tensors["predicted"].numpy())
        fitted, seconds = self._fitted(drawn)
        predicted = fitted.logits(self._texts("test")).argmax(axis=1)
        found = SeedScore(
            seed=seed,
            accuracy=accuracy(self.splits["test"].labels, predicted),
            agreement=accuracy(self.teachers, predicted),
            recall=None,
            steps=None,
            seconds=seconds,
            loss=None,
            trained_seconds=seconds,
        )
        write_tensors(folder / PREDICTIONS, {"predicted": torch.from_numpy(predicted)}, {})
        remember(folder / SEED, found, made_from=made_from)
        return Answered(found, predicted)

    def ship(self, drawn: Settings, folders: Mapping[int, Path], place: Path) -> Shipped:
        """As ``Entrant`` says."""
        del folders
        made_from = self._made_from(drawn)
        earlier = recall(place / SHIPPED, Shipped, made_from=made_from)
        if earlier is not None:
            return earlier
        (fitted, _), one = self._fitted(drawn), self._texts("test")[:1]
        times = []
        for _ in range(CALLS):
            begun = time.perf_counter()
            fitted.logits(one)
            times.append(time.perf_counter() - begun)
        found = Shipped(
            stored_bytes=LABEL_BYTES,
            parameters=fitted.parameters,
            multiply_adds=fitted.multiply_adds,
            latency=statistics.median(times),
            barrier=None,
            notes=("its latency includes reading the text's words",),
        )
        remember(place / SHIPPED, found, made_from=made_from)
        return found

    def _fitted(self, drawn: Settings) -> tuple[TextClassifier, float]:
        name = fingerprint(drawn)
        if name not in self._kept:
            texts, labels = self._texts("train"), self.splits["train"].labels
            begun = time.perf_counter()
            fitted = self.fit(texts, labels, settings=drawn)
            self._kept.clear()
            self._kept[name] = fitted, time.perf_counter() - begun
        return self._kept[name]

    def _texts(self, split: str) -> list[str]:
        inputs = self.splits[split].inputs
        return plain_texts([inputs[row] for row in range(len(inputs))])

    def _made_from(self, drawn: Settings, seed: int = SEARCHED) -> str:
        return fingerprint(self.contender.name, dict(self.made_by), drawn, seed)
