"""A common coordinate system: students of one map beside their teacher and one another.

``python -m benchmarks.study.space``. Students of a frozen MiniLM are taught half of the classes of
CLINC150 by squared error alone. Then the teacher's rows and the students' are put in one another's
place: queries in a gallery of other rows, and heads for the other half of the classes, which no
student has seen, made on the teacher's rows and plugged into the students. Beside the maps to k
numbers stand the features as they are (k = 384: feature matching with a linear layer) and the
teacher's logits, learned by squares.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import distill
from benchmarks.study.common import (
    CASES,
    DATA,
    ROOT,
    RUNS,
    mean_and_half,
    options,
    points,
    table,
    write,
)
from distill.bars import Bars
from distill.comparing.space import Gallery, crossed, plug_in
from distill.config import StudentConfig
from distill.desk import Pupil
from distill.lessons import Lesson
from distill.pipeline.learning import lesson_of
from distill.pipeline.opening import opened_for_writing
from distill.pupils import METHODS
from distill.rivals import RIVALS
from distill.schooling import School, logits_from, open_school
from distill.stored import blocks
from stores import FeatureStore, open_splits
from students import FittedHead, forward_rows, make_feed

TEACHER = "clinc150-minilm"
FOLDER = RUNS / "space"
CONFIG = ROOT / "configs" / "students-space.toml"
KINDS = ("gaussian", "orthogonal", "pca", "head-svd")
FULL, LOGITS = "full", "logits"
SEEDS = (1, 2, 3, 4, 5)
L2 = (1e-5, 1e-4, 1e-3, 1e-2)
MEASURES = (
    "classes known", "recall@10, teacher's gallery", "accuracy in it",
    "recall@10, another student's gallery", "accuracy in that",
    "new classes, teacher", "new classes, student", "gallery of new classes",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Space:
    """One space: what the teacher answers in it, known and new classes, and how students do."""

    name: str
    school: School
    method: str
    settings: StudentConfig
    new: Mapping[str, Gallery]  # the teacher's rows of new classes, by split

    def teachers(self, split: str) -> Gallery:
        """The teacher's rows of known classes."""
        part = self.school.splits[split]
        found = np.concatenate(list(blocks(part.targets)))
        return Gallery(self._read(found, part.features), part.ids, part.labels)

    def _read(self, targets: np.ndarray, features: FeatureStore) -> np.ndarray:
        if self.name != LOGITS:
            return targets
        return self.school.lesson.full_head.logits(np.concatenate(list(blocks(features))))

    def pupil(self, seed: int) -> Pupil:
        """A student of this seed, taught or read back."""
        settings = self.settings.model_copy(update={"seed": seed})
        folder = FOLDER / "students" / self.name / f"seed-{seed}"
        self.school.teach(self.method, settings, folder)
        return self.school.reopen(self.method, settings, folder)

    def rows(self, pupil: Pupil, inputs: Any) -> np.ndarray:
        """What a student answers in this space."""
        feed = make_feed(inputs, self.school.lesson.prepare, {})
        found = forward_rows(pupil.encoder, feed, device="cpu")
        return logits_from(pupil.student.head, found) if self.name == LOGITS else found


def main() -> None:
    """Teach, measure, and write the page."""
    known, new = runs()
    rows = []
    for space in spaces(known, new):
        found = np.array(list(measured(space, new)))
        cells = [points(*mean_and_half([float(value) for value in column])) for column in found.T]
        rows.append([space.name, str(space.teachers("test").rows.shape[1]), *cells])
    told = (
        f"Students `static/256` of a frozen MiniLM; {len(SEEDS)} seeds, all figures in percent, "
        "means with 95 % intervals over seeds. *Known*: the student's own frozen head (of logits: "
        "its largest). *Recall*: of the ten nearest rows that the gallery's model itself finds, in "
        "that space. *New classes*: 75 that no student was taught; heads are made on the "
        "teacher's rows and read the teacher's or the student's; the last column is the majority "
        "of ten neighbours in the teacher's gallery.\n"
    )
    write("space", "A common coordinate system", told, table(["space", "k", *MEASURES], rows))


def runs() -> tuple[Path, Path]:
    """Two runs of one teacher: known classes with views and maps, and new classes."""
    known, new = FOLDER / "known", FOLDER / "new"
    bars, named = Bars(verbose=False, quiet=False), options(CASES[TEACHER])
    for run in (known, new):
        split_classes(FOLDER)
        told: Any = {**named, "data": f"json:{FOLDER}/{run.name}-*.jsonl"}
        if run is new:
            told["views"] = 0
        distill.extract(run, config=CONFIG, progress=bars, **told)
        distill.train_head(run, progress=bars)
    for kind in KINDS:
        distill.project(known, kind=kind, progress=bars)
    return known, new


def split_classes(folder: Path) -> None:
    """Every other class to one side: text and name of the class, a line each."""
    from datasets import load_dataset

    folder.mkdir(parents=True, exist_ok=True)
    files = {name: str(DATA / f"text/clinc150-{name}.parquet") for name in SPLITS}
    data = load_dataset("parquet", data_files=files)
    names = data["train"].features["label"].names
    for split in SPLITS:
        for side, name in enumerate(("known", "new")):
            lines = [
                json.dumps({"text": row["text"], "label": names[row["label"]]})
                for row in data[split]
                if row["label"] % 2 == side
            ]
            (folder / f"{name}-{split}.jsonl").write_text("\n".join(lines) + "\n")


SPLITS = ("train", "validation", "test")


def spaces(known: Path, new: Path) -> Iterator[Space]:
    """The maps, the features as they are, and the logits; inputs are prepared once for all."""
    features = {
        name: np.concatenate(list(blocks(s)))
        for name, s in open_splits(new / "features.zarr").items()
    }
    stores = open_splits(new / "features.zarr")
    school: School | None = None
    for name in (*KINDS, FULL, LOGITS):
        lesson, settings, mapped = lesson_in(known, name, features)
        if school is None:
            with opened_for_writing(known, None, {}) as opened:
                bars = Bars(verbose=False, quiet=False)
                school = open_school(opened.dataset, lesson, workers=0, device="cpu", progress=bars)
                school = replace(school, methods={**METHODS, **RIVALS})
                school.material(settings)
        galleries = {
            split: Gallery(mapped[split], store.ids(), store.labels())
            for split, store in stores.items()
        }
        method = "logit-mse" if name == LOGITS else "subspace"
        yield Space(
            name=name,
            school=school.aiming_at(lesson),
            method=method,
            settings=settings,
            new=galleries,
        )


def lesson_in(
    known: Path, name: str, features: Mapping[str, np.ndarray]
) -> tuple[Lesson, StudentConfig, dict[str, np.ndarray]]:
    """What is learned in a space, and the teacher's rows of new classes in it."""
    from distill.pipeline.building import feature_stores
    from distill.pipeline.mapping import maps_for

    told = {"student.factor": 1} if name in (FULL, LOGITS) else {"project.kind": name}
    with opened_for_writing(known, None, told) as opened:
        lesson, settings = lesson_of(opened, progress=Bars(verbose=False, quiet=True))
        if name == LOGITS:
            head: FittedHead = lesson.full_head
            return lesson, settings, {split: head.logits(rows) for split, rows in features.items()}
        if name == FULL:
            return lesson, settings, dict(features)
        k = lesson.targets["train"].spec.dim
        (projection,) = maps_for(opened, feature_stores(opened.run)["train"], name, [k], 0)
        return lesson, settings, {s: projection.transform(rows) for s, rows in features.items()}


def measured(space: Space, new: Path) -> Iterator[tuple[float, ...]]:
    """The measures of each seed's student; the other student is that of the next seed."""
    train, test = space.teachers("train"), space.teachers("test")
    inputs = {name: part.inputs for name, part in space.school.splits.items()}
    with opened_for_writing(new, None, {}) as opened:
        fresh = opened.dataset.splits["test"].inputs
        classes = len(opened.dataset.classes)
    pupils = [space.pupil(seed) for seed in SEEDS]
    tested = [space.rows(pupil, inputs["test"]) for pupil in pupils]
    galleries = [space.rows(pupil, inputs["train"]) for pupil in pupils]
    for number, pupil in enumerate(pupils):
        mine = Gallery(tested[number], test.ids, test.labels)
        logits = mine.rows if space.name == LOGITS else logits_from(pupil.student.head, mine.rows)
        at_teacher = crossed(train, mine, test.rows)
        other = (number + 1) % len(pupils)
        theirs = Gallery(galleries[other], train.ids, train.labels)
        at_other = crossed(theirs, mine, tested[other])
        rows = space.rows(pupil, fresh)
        own = space.new["test"]
        plugged = plug_in(
            space.new["train"], space.new["validation"], own, rows, classes=classes, l2=L2
        )
        near = crossed(space.new["train"], Gallery(rows, own.ids, own.labels), own.rows)
        yield (
            float(np.mean(logits.argmax(axis=1) == test.labels)),
            at_teacher.recall, at_teacher.accuracy, at_other.recall, at_other.accuracy,
            plugged.own, plugged.other, near.accuracy,
        )  # fmt: skip


if __name__ == "__main__":
    main()
