"""``--dry-run``: what a command would do, how long, and how much disk; nothing is written.

Times come from a few real batches on this machine, so they say about how long.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from distill.findings import FoldsTaught, Plan, PlannedStage, Student, Sweep, Taught
from distill.options import AUTO, SPECIAL, overrides, several
from distill.pipeline.building import BESIDE, projected_width, the_device, the_teacher, the_views
from distill.pipeline.mapping import store_name
from distill.pipeline.opening import Opened, peek, told
from distill.pipeline.projecting import is_projected
from distill.pipeline.sweeping import covers
from distill.pipeline.teaching import the_projection
from distill.runs import DEFAULT_RUN, POOL, VIEWS, recall

if TYPE_CHECKING:
    from distill.datasets import Dataset
    from teachers import Teacher

STAGES = {
    "run": ("train-teacher", "extract", "project", "train-student"),
    "train-teacher": ("train-teacher",),
    "extract": ("extract",),
    "project": ("project",),
    "train-student": ("train-student",),
    "sweep": ("sweep",),
}
NOT_OPTIONS = ("repair", "overwrite", "validate")
BACKWARD = 3  # a training step costs about three forward passes
TRIED = 32  # rows of a batch that is timed
TRIED_HEAD = 1000  # rows that a head is timed on
CELL = 4000  # bytes that a cell of a sweep takes on disk


def plan(
    stage: str,
    run: Path | str = DEFAULT_RUN,
    *,
    config: Path | str | None = None,
    **options: Any,
) -> Plan:
    """What the command ``stage`` would do with the same words, and about how long it would take."""
    given = {name: value for name, value in options.items() if name not in NOT_OPTIONS}
    names = STAGES[stage]
    if stage == "project" and AUTO in several(given.get("factor") or ()):
        del given["factor"]
        names = ("sweep", "recommended")
    asked = overrides(given, SPECIAL.get(stage.replace("-", "_")))
    if stage == "train-teacher":
        asked["teacher.taught"] = True
    elif given.get("weights") is not None or given.get("random_init"):
        asked.setdefault("teacher.taught", False)
    with told():
        opened = peek(run, config, asked)
        sight = _Sight(
            opened,
            anew=bool(options.get("overwrite")),
            check=bool(options.get("validate", True)),
        )
        stages: list[PlannedStage] = []
        for found in filter(None, (_PLANNERS[name](sight) for name in names)):
            waits = any(not earlier.done for earlier in stages)  # its inputs are still to be made
            stages.append(replace(found, done=False) if waits else found)
        nearest = next(
            p
            for p in (opened.run.folder.absolute(), *opened.run.folder.absolute().parents)
            if p.exists()
        )
        return Plan(
            stages=tuple(stages),
            free_bytes=shutil.disk_usage(nearest).free,
        )


class _Sight:
    """What planning has to look at, looked at once."""

    def __init__(self, opened: Opened, *, anew: bool, check: bool) -> None:
        self.anew = anew  # whether what is finished would be replaced
        self.check = check  # whether projected stores are validated
        self.run, self.config = opened.run, opened.config
        self.opened = opened

    @property
    def dataset(self) -> "Dataset":
        """The examples."""
        return self.opened.dataset

    @property
    def pool(self) -> "Dataset | None":
        """The unlabeled examples."""
        return self.opened.pool

    @cached_property
    def teacher(self) -> "Teacher":
        """The teacher; one that is still to be taught costs the same."""
        fresh = not self.run.taught.is_file()
        return the_teacher(self.run, self.config, self.dataset, fresh=fresh)

    @property
    def rows(self) -> dict[str, int]:
        """Examples of each split."""
        return {name: len(split.ids) for name, split in self.dataset.splits.items()}

    @cached_property
    def stored_rows(self) -> dict[str, int]:
        """Rows of each split that extraction stores: the examples, views of them, and a pool."""
        views, pool = the_views(self.config, self.dataset), self.pool
        rows = dict(self.rows)
        if views is not None:
            rows[VIEWS] = views.count * rows["train"]
        if pool is not None:
            each = 1 if views is None else views.count
            rows[POOL] = each * len(pool.splits["train"])
        return rows

    def extracted(self) -> set[str]:
        """Splits whose stores are finished and were made by what would make them now.

        The teachers of folds are not loaded to compare them: that there were any is what counts.
        """
        from distill.sources import sources_of
        from distill.stages.extract import LEARNED, specs_of
        from stores import StoreError, open_store

        found: set[str] = set()
        if self.anew or not self.run.features.is_dir():
            return found
        config, root = self.config, self.run.features
        asked = specs_of(
            sources_of(self.dataset, the_views(config, self.dataset), self.pool),
            self.teacher,
            root,
            settings=config.extract,
            made_by={},
            projection=the_projection(config, self.teacher),
        )
        for name, spec in asked.items():
            try:
                there = open_store(root / name).spec
            except StoreError:
                continue
            made_by = dict(there.made_by)
            held_out = made_by.pop("held_out", None) is not None
            wanted = config.extract.held_out and name in LEARNED
            if held_out == wanted and replace(there, made_by=made_by).compared() == spec.compared():
                found.add(name)
        return found

    @property
    def dim(self) -> int:
        """Width of the rows that extraction stores."""
        return projected_width(self.config.extract, self.teacher.card.dim)

    def row_seconds(self) -> float:
        """Seconds the teacher takes for one example, reading and preparing it included."""
        split = self.dataset.splits["train"]
        size = min(TRIED, len(split.ids))
        inputs = [split.inputs[i] for i in range(size)]
        return _seconds(lambda: self.teacher.embed(self.teacher.prepare(inputs))) / size


def _teach(sight: _Sight) -> PlannedStage | None:
    config = sight.config
    if not config.teacher.taught:
        return None
    folds, there = config.teach.folds, not sight.anew
    whole = 0 if there and recall(sight.run.taught, Taught) is not None else 1
    known = there and recall(sight.run.folds, FoldsTaught) is not None
    rest = 0 if not folds or known else folds - 1
    steps = sight.rows["train"] * config.teach.epochs  # teachers of folds learn all but one fold
    passes = BACKWARD * steps + sight.rows.get("validation", 0) * config.teach.epochs
    what = f"{config.teacher.name}, {config.teach.epochs} epochs of {sight.rows['train']} rows"
    return PlannedStage(
        stage="train-teacher",
        what=what + (f", and {folds} more without a fold each" if folds else ""),
        done=not whole + rest,
        seconds=sight.row_seconds() * passes * (whole + rest) if whole + rest else None,
        # the weights, and AdamW's two moments
        bytes=(1 + folds) * 3 * 4 * sight.teacher.card.parameters,
    )


def _extract(sight: _Sight) -> PlannedStage:
    config, card, wanted = sight.config, sight.teacher.card, sight.stored_rows
    finished = sight.extracted()
    done = finished == set(wanted)
    rows = sum(wanted.values())
    missing = sum(count for name, count in wanted.items() if name not in finished)
    item = 2 if config.extract.dtype == "float16" else 4
    beside = "".join(f", {wanted[name]} of them {name}" for name in BESIDE if name in wanted)
    return PlannedStage(
        stage="extract",
        what=f"{rows} rows of {sight.dim} {config.extract.dtype}{beside}",
        done=done,
        seconds=None if done else missing * sight.row_seconds(),
        bytes=rows * (sight.dim * item + len(card.classes) * 4 + 16),
    )


def _project(sight: _Sight) -> PlannedStage:
    import numpy as np

    from distill.pipeline.building import feature_stores
    from distill.stages.project import dim_for_factor

    stores = feature_stores(sight.run) if sight.run.features.is_dir() else {}
    if stores:
        specs = [store.spec for store in stores.values()]
        dim, rows = specs[0].dim, sum(spec.rows for spec in specs)
    else:
        dim, rows = sight.dim, sum(sight.stored_rows.values())
    settings = sight.config.project
    dims = sorted({dim_for_factor(dim, factor) for factor in settings.factors}, reverse=True)
    names = {store_name(settings, k, seed) for k in dims for seed in settings.seeds}
    seeds, item = len(names) // len(dims), int(np.dtype(settings.dtype).itemsize)
    block = np.ones((min(rows, 512), dim), dtype=np.float32)
    matrix = np.ones((dim, sum(dims)), dtype=np.float32)
    return PlannedStage(
        stage="project",
        what=f"{len(names)} stores of {rows} rows: k = {', '.join(map(str, dims))}",
        done=bool(stores)
        and all(
            is_projected(sight.opened, stores, settings.kind, k, seed, check=sight.check)
            for k in dims
            for seed in settings.seeds
        ),
        seconds=_seconds(lambda: block @ matrix) * rows / len(block) * seeds,
        bytes=seeds * rows * (item * sum(dims) + 16 * len(dims)),
    )


def _student(sight: _Sight) -> PlannedStage:
    import torch

    from distill.pipeline.learning import SUBSPACE, network_of, within_budget
    from students import Blueprint, build

    config = sight.config
    settings = network_of(config.student)
    students = [recall(path, Student) for path in sight.run.students.glob("*/student.json")]
    k = max(1, round(sight.dim / settings.factor))
    done = not sight.anew and any(
        found
        and (found.method, found.network) == (settings.way, settings.name)
        and found.epochs == settings.epochs
        and (found.dim_out == k or settings.way != SUBSPACE)
        for found in students
    )
    split = sight.dataset.splits["train"]
    size = min(TRIED, len(split.ids))
    prepared = sight.teacher.prepare([split.inputs[i] for i in range(size)])
    tokenizer = getattr(sight.teacher.prepare, "tokenizer", None)
    blueprint = Blueprint(
        name=settings.name,
        dim_out=k,
        modality=sight.dataset.modality,
        options=settings.options,
        image_size=settings.image_size or config.teacher.image_size,
        vocabulary=0 if tokenizer is None else len(tokenizer),
    )
    blueprint = within_budget(blueprint, settings, sight.teacher, sight.dataset)
    network = build(blueprint).to(the_device(config))
    moved = {name: tensor.to(the_device(config)) for name, tensor in prepared.items()}
    with torch.inference_mode():
        forward = _seconds(lambda: network.eval()(moved)) / size
    count = 3 if settings.baselines else 1
    rows = len(split.ids) + (len(sight.pool.splits["train"]) if settings.pool and sight.pool else 0)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return PlannedStage(
        stage="train-student",
        what=f"{blueprint.name}, {settings.epochs} epochs of {rows} rows"
        + (", and its two baselines" if settings.baselines else ""),
        done=done,
        seconds=None if done else count * BACKWARD * forward * settings.epochs * rows,
        bytes=count * 3 * 4 * parameters,
    )


def _sweep(sight: _Sight) -> PlannedStage:
    """Nearly all of its time goes into heads, which take about as long as they are wide."""
    import numpy as np

    from distill.pipeline.building import feature_stores
    from distill.stages.sweep import scope
    from distill.sweeping.folds import FOLDS
    from students import fit_path

    stores, settings, head = feature_stores(sight.run), sight.config.sweep, sight.config.head
    found = scope(stores, settings)
    swept = recall(sight.run.swept, Sweep)
    wanted = {(kind, k) for kind, dims in found.dims.items() for k in dims}
    train = stores["train"]
    some = slice(0, min(TRIED_HEAD, train.spec.rows))
    features, labels = train.features(some.start, some.stop), train.labels()[some]
    labels[:2] = 0, 1  # the first rows may be of one class only
    fits = []
    for k in (found.rows.dim, min(k for _, k in wanted)):
        narrow = np.ascontiguousarray(features[:, :k])
        fit = partial(
            fit_path, narrow, labels,
            classes=found.classes, l2=head.l2, max_iterations=head.max_iterations,
        )  # fmt: skip
        fits.append((k, _seconds(fit)))
    (dim, wide), (least, narrowest) = fits
    slope = (wide - narrowest) / max(1, dim - least)
    each = [narrowest + slope * (k - least) for k in (dim, *(k for _, k in wanted))]
    share = found.rows.count * (FOLDS - 1) / FOLDS / len(labels)
    cells = settings.seeds * len(each)
    return PlannedStage(
        stage="sweep",
        what=f"{cells} cells: {len(found.dims)} kinds of map, {len(wanted)} widths of them and "
        f"the full one, {settings.seeds} seeds",
        done=swept is not None and covers(swept, Opened(sight.run, sight.config)),
        seconds=settings.seeds * share * max(0.0, sum(each)),
        bytes=cells * CELL + 8 * dim * (dim + found.classes) * (1 + settings.seeds),
    )


def _recommended(sight: _Sight) -> PlannedStage:
    """What comes after a sweep: it says which width, at most the whole."""
    from distill.pipeline.building import feature_stores

    specs = [store.spec for store in feature_stores(sight.run).values()]
    return PlannedStage(
        stage="project",
        what="the map that the sweep recommends",
        done=False,
        seconds=None,
        bytes=sum(spec.rows * (4 * spec.dim + 16) for spec in specs),
    )


def _seconds(call: Callable[[], object]) -> float:
    """The faster of two calls after a warm-up."""
    call()
    times: Sequence[float] = []
    for _ in range(2):
        begun = perf_counter()
        call()
        times = [*times, perf_counter() - begun]
    return min(times)


_PLANNERS: dict[str, Callable[[_Sight], PlannedStage | None]] = {
    "train-teacher": _teach,
    "extract": _extract,
    "project": _project,
    "train-student": _student,
    "sweep": _sweep,
    "recommended": _recommended,
}
