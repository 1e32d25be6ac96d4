"""``nest``: a trained network becomes one of any budget, and learns to be good at all of them.

It is cut first, which is kept (``start.safetensors``: surgery, path, factors; until then, each rank
that was tried), then taught at a few points of its path, the best epoch chosen by their mean on
validation. Of test nothing is read.
"""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, final

from torch import nn

from distill.allocator import memory_kept
from distill.config import NestConfig, fingerprint
from distill.contest import itself
from distill.datasets import Dataset, Split
from distill.errors import StageError
from distill.findings import Nested, NestedPoint
from distill.labelled import labels_of
from distill.nesting import (
    SURGICAL,
    Batches,
    Cut,
    Examiner,
    Stored,
    Subject,
    Telling,
    calibration_of,
    choosing,
    deciding,
    example_of,
    lessons_of,
    operate,
    trials_of,
)
from distill.progress import Progress
from distill.rank_lessons import (
    hint_notes,
    objective_of,
    recipe_of,
    teach_settings,
    witness_of,
)
from distill.replacing import replacing
from distill.runs import recall, remember
from distill.training_rows import TrainingRows, fresh_note, fresh_rows, plain_rows
from distill.tried import forget_tried, tried_ranks
from students import (
    Evaluation,
    Feed,
    FitResult,
    Recipe,
    count_parameters,
    evaluate_logits,
    forward_rows,
    in_memory,
    make_feed,
    place,
    plain_settings,
    read_card,
    same_settings,
)
from students.feeds import Take
from students.nested import (
    NestedPath,
    NestedRecipe,
    Tried,
    Witness,
    attach,
    fill,
    give_biases,
    hint_spreads,
    measure_norms,
    read_nested,
    save_nested,
    select,
    surgery_of,
)
from students.nested.training import averaged
from teachers import save_prepare

ANOTHER = "give this one a name of its own with --name"
UNTOLD = ("dataset", "preprocessing")  # what decides the cut beside settings and network
FILE, START, RECORD = "nested.safetensors", "start.safetensors", "nested.json"
NEEDED = ("train", "validation")


@memory_kept()
def nest(
    subject: Subject,
    dataset: Dataset,
    *,
    folder: Path,
    settings: NestConfig,
    workers: int,
    device: str,
    progress: Progress,
    stored: Stored | None = None,
    overwrite: bool = False,
) -> Nested:
    """Nest ``subject`` and teach it its ranks in ``folder``; its network is changed in place.

    With ``stored`` it learns those rows and no labels. Finished with the same settings, it is
    read back; with others it raises ``CheckpointError`` that names one of them, unless
    ``overwrite``. Killed or interrupted, the same call goes on. Errors of the surgery as
    ``students.nested.nest``; ``StageError`` for data that cannot teach.
    """
    if stored is not None and settings.augment:
        raise StageError("stored rows are of the examples as they are: leave out nest.augment")
    if stored is not None and settings.hint_weight:
        raise StageError("stored rows are learned alone: leave out nest.hint_weight")
    splits = _labelled(dataset)
    made_by = _made_by(subject, dataset, settings, stored)
    with replacing(folder, wanted=overwrite, made_from=fingerprint(made_by)) as place:
        earlier = _finished(place, made_by)
        if earlier is not None:
            progress.say(f"{folder.name} is nested already")
            return earlier
        return _made(
            subject,
            dataset,
            splits,
            folder=place,
            settings=settings,
            made_by=made_by,
            workers=workers,
            device=device,
            progress=progress,
            stored=stored,
        )


def _made(
    subject: Subject,
    dataset: Dataset,
    splits: Mapping[str, Split],
    *,
    folder: Path,
    settings: NestConfig,
    made_by: Mapping[str, Any],
    workers: int,
    device: str,
    progress: Progress,
    stored: Stored | None,
) -> Nested:
    feeds = {
        name: make_feed(split.inputs, subject.prepare, {}, workers=workers)
        for name, split in splits.items()
    }
    place(subject.network, device)
    bench = _Bench(
        subject=subject,
        splits=splits,
        feeds=feeds,
        modality=dataset.modality,
        workers=workers,
        settings=settings,
        folder=folder,
        made_by=made_by,
        device=device,
        progress=progress,
        stored=stored,
    )
    found = bench.finish()
    remember(folder / RECORD, found, made_from=fingerprint(made_by))
    return found


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class _Bench:
    """One network on its way: dense, cut, taught, saved."""

    subject: Subject
    splits: Mapping[str, Split]
    feeds: Mapping[str, Feed]
    modality: str
    workers: int
    settings: NestConfig
    folder: Path
    made_by: Mapping[str, Any]
    device: str
    progress: Progress
    stored: Stored | None

    def finish(self) -> Nested:
        """All of it, from where it stands."""
        parameters = count_parameters(self.subject.network)
        dense = self._dense()
        targets, witness = self._targets(), self._witness()
        start = self._start()
        lessons = lessons_of(start.path, self.settings)
        if self.settings.own_biases:
            give_biases(start.network, [point.ranks for point in lessons.points])
        surgery = surgery_of(start.network)
        self.progress.say(surgery.as_text())
        untaught = self._evaluated(start, lessons)
        self.progress.say(_before(dense, lessons, untaught))
        result = self._teach(start, lessons, targets, witness)
        taught = self._evaluated(start, lessons)
        self._save(start, lessons)
        return Nested(
            name=self.folder.name,
            of=self.subject.name,
            layers=len(surgery.layers),
            parameters=count_parameters(start.network),
            dense_parameters=parameters,
            dense_flops=start.dense_flops,
            measured_at=start.path.measured_at,
            dense_accuracy=dense.accuracy,
            points=tuple(
                NestedPoint(
                    share=point.share,
                    accuracy=after.accuracy,
                    loss=after.loss,
                    untaught=before.accuracy,
                )
                for point, before, after in zip(lessons.points, untaught, taught, strict=True)
            ),
            budgets=len(start.path.points),
            floor=start.path.floor,
            epochs=result.epochs,
            best_epoch=result.best_epoch,
            updates=int(result.history[-1]["step"]),
            seed=self.settings.seed,
            surgery=surgery.as_text(),
            seconds=result.seconds,
            notes=(*self._notes(witness), *result.notes),
        )

    # --- the dense network ------------------------------------------------------------------------

    def _dense(self) -> Evaluation:
        logits = forward_rows(self.subject.network, self.feeds["validation"], device=self.device)
        return evaluate_logits(logits, labels_of(self.splits["validation"]))

    def _targets(self) -> dict[str, Take]:
        """What the training rows are compared with; the dense network is still whole."""
        targets: dict[str, Take] = {"labels": in_memory(labels_of(self.splits["train"]))}
        if self.stored is not None:
            targets = {"targets": self.stored.rows}
        if self._objective.needs_dense and not (self.settings.augment or self._hinted):
            self.progress.say("the network answers the training examples, to be distilled")
            logits = forward_rows(self.subject.network, self.feeds["train"], device=self.device)
            targets["logits"] = in_memory(logits)
        return targets

    def _witness(self) -> Witness | None:
        """The dense network to be asked of every batch, as it is before it is cut."""
        if not (self._hinted or (self._objective.needs_dense and self.settings.augment)):
            return None
        dense = copy.deepcopy(self.subject.network).eval().requires_grad_(False)
        return witness_of(
            dense,
            self._objective,
            spreads=hint_spreads(dense, self._hinted, self._calibration) if self._hinted else {},
            counterpart=itself,
            answers=True,
            precision=self.settings.precision,
        )

    @cached_property
    def _hinted(self) -> tuple[str, ...]:
        """Layers whose outputs are learned; the network is still whole when it is first asked."""
        if not self._objective.hint_weight:
            return ()
        return tuple(select(self.subject.network, self.settings.include).layers)

    @cached_property
    def _objective(self) -> NestedRecipe:
        return objective_of(self.settings, scale=None if self.stored is None else self.stored.scale)

    # --- the cut ----------------------------------------------------------------------------------

    @cached_property
    def _calibration(self) -> Batches:
        settings = self.settings
        return calibration_of(
            self.feeds["train"], settings.calibration, seed=settings.seed, device=self.device
        )

    def _start(self) -> Cut:
        """The cut network: read back, or made and kept."""
        network, file = self.subject.network, self.folder / START
        network.requires_grad_(True)  # a frozen teacher may say otherwise
        if self.stored is not None:
            network.head.requires_grad_(False)  # it reads the stored rows' space
        decisive = {*SURGICAL, *UNTOLD, *self.subject.made_by}
        surgical = {name: value for name, value in self.made_by.items() if name in decisive}
        if file.is_file():
            saved = read_nested(file)
            _refuse_others(surgical, saved.card, what=f"the network in {self.folder}")
            fill(network, saved)
            forget_tried(self.folder)  # by a kill just after it was saved
            return Cut(
                network=network,
                path=saved.path,
                dense_flops=int(saved.card["dense_flops"]),
            )
        with tried_ranks(self.folder, surgical) as tried:
            made = self._cut(tried)
            lessons_of(made.path, self.settings)  # a budget out of reach needs no start
            self.folder.mkdir(parents=True, exist_ok=True)
            card = {**self.subject.card, "made_by": surgical, "dense_flops": made.dense_flops}
            save_nested(file, network, path=made.path, card=card)
        attach(network, made.path)
        return made

    def _cut(self, tried: Tried) -> Cut:
        network, settings = self.subject.network, self.settings
        measure_norms(network, self._calibration)  # too few rows for it are said before any work
        example = example_of(self.splits["train"], self.subject.prepare)
        placed = ({name: t.to(self.device) for name, t in example[0].items()},)
        layers = len(select(network, settings.include).layers)
        with self.progress.task("nest layers", total=layers, unit="layers") as advance:
            operate(network, self._calibration, settings, on_layer=advance)
        trials = trials_of(network, placed, self._calibration, settings)
        if settings.ranks:
            path = trials.alike(settings.ranks)
        else:
            with self.progress.task("try ranks", total=trials.passes, unit="passes") as advance:
                path = trials.path(settings.floor, tried=tried, on_forward=advance)
        return Cut(network=network, path=path, dense_flops=trials.costs.total)

    # --- learning ---------------------------------------------------------------------------------

    def _teach(
        self,
        start: Cut,
        lessons: NestedPath,
        targets: Mapping[str, Take],
        witness: Witness | None,
    ) -> FitResult:
        recipe = recipe_of(self.settings)
        whole: nn.Module = start.network if self.stored is None else Telling(start.network)
        return teach_settings(
            whole,
            [point.ranks for point in lessons.points],
            choose=choosing(start.network),
            objective=self._objective,
            train=self._rows(targets, recipe),
            witness=witness,
            evaluate=lambda _: averaged(
                {
                    f"{point.share:.3f}": found
                    for point, found in zip(
                        lessons.points, self._evaluated(start, lessons), strict=True
                    )
                }
            ),
            recipe=recipe,
            folder=self.folder,
            made_by=dict(self.made_by),
            device=self.device,
            progress=self.progress,
        )

    def _rows(self, targets: Mapping[str, Take], recipe: Recipe) -> TrainingRows:
        if not self.settings.augment:
            return plain_rows(self.feeds["train"], targets, recipe)
        return fresh_rows(
            self.splits["train"],
            targets,
            recipe,
            augment=self.settings.augment,
            mix=self.settings.mix,
            modality=self.modality,
            prepare=self.subject.prepare,
            workers=self.workers,
        )

    def _notes(self, witness: Witness | None) -> Iterator[str]:
        if self.settings.augment:
            yield fresh_note(self.settings.augment, self.settings.mix)
        yield from hint_notes(self.settings.hint_weight, witness.counterparts if witness else ())

    def _evaluated(self, start: Cut, path: NestedPath) -> list[Evaluation]:
        """How it does at each point, on validation."""
        examiner = self._examiner(start)
        return [examiner.evaluate(point.ranks) for point in path.points]

    def _examiner(self, start: Cut) -> Examiner:
        return Examiner(
            network=start.network,
            feed=self.feeds["validation"],
            labels=labels_of(self.splits["validation"]),
            calibration=self._calibration,
            device=self.device,
        )

    def _save(self, start: Cut, lessons: NestedPath) -> None:
        save_prepare(self.folder, self.subject.prepare)
        save_nested(
            self.folder / FILE,
            start.network,
            path=start.path,
            norms=self._examiner(start).norms_along(start.path),
            card={
                **self.subject.card,
                "made_by": dict(self.made_by),
                "dense_flops": start.dense_flops,
                "lessons": [point.share for point in lessons.points],
            },
        )


# --- what decides the result ----------------------------------------------------------------------


def _made_by(
    subject: Subject, dataset: Dataset, settings: NestConfig, stored: Stored | None
) -> dict[str, Any]:
    """All that decides the weights; flat, so that a difference has a name."""
    return plain_settings(
        {
            **deciding(settings),
            **asdict(recipe_of(settings)),
            **subject.made_by,
            "dataset": dataset.fingerprint,
            "preprocessing": dict(subject.card["preprocessing"]),
            "classes": list(dataset.classes),
            "stored": stored.digest if stored else "",
        }
    )


def _finished(folder: Path, made_by: Mapping[str, Any]) -> Nested | None:
    if not (folder / FILE).is_file():
        return None
    card = read_card(folder / FILE)["card"]
    _refuse_others(made_by, card, what=f"the nested network in {folder}")
    return recall(folder / RECORD, Nested)


def _refuse_others(made_by: Mapping[str, Any], card: Mapping[str, Any], *, what: str) -> None:
    """``CheckpointError`` for a file of other settings; one of before may not say all of them."""
    untold = {name: made_by[name] for name in UNTOLD}
    same_settings(made_by, {**untold, **card["made_by"]}, what=what, instead=ANOTHER)


def _labelled(dataset: Dataset) -> dict[str, Split]:
    """Train and validation, with rows and labels."""
    for name in NEEDED:
        split = dataset.splits.get(name)
        if split is None or len(split.ids) == 0:
            raise StageError(f"{dataset.name} has no examples in its {name} split")
        if split.labels is None:
            raise StageError(f"the {name} split of {dataset.name} has no labels to learn from")
    return {name: dataset.splits[name] for name in NEEDED}


def _before(dense: Evaluation, lessons: NestedPath, untaught: list[Evaluation]) -> str:
    each = ", ".join(
        f"{found.accuracy:.1%} at {point.share:.0%}"
        for point, found in zip(lessons.points, untaught, strict=True)
    )
    return f"validation accuracy before it is taught: {dense.accuracy:.1%} dense; {each}"
