"""Parts from a config: the teacher, the stores a run already holds."""

import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from distill.config import STUDENT, Config, ExtractConfig
from distill.findings import Projected, Student
from distill.pipeline.opening import UserError
from distill.progress import Progress
from distill.runs import DEFAULT_RUN, POOL, VIEWS, Run, recall

if TYPE_CHECKING:  # quoted below, so that naming the parts does not load torch
    from distill.datasets import Dataset
    from distill.views import Views
    from projections import Projection
    from stores import FeatureStore
    from teachers import Teacher

BESIDE = (VIEWS, POOL)  # splits of a store for students only


def command(run: Run, words: str) -> str:
    """What a user types to run ``words`` on this run folder."""
    where = "" if run.folder == DEFAULT_RUN else f" --run {shlex.quote(str(run.folder))}"
    return f"`distill {words}{where}`"


def the_device(config: Config) -> str:
    """The device that is meant and there."""
    from teachers import resolve_device

    return resolve_device(config.compute.device)


def the_teacher(
    run: Run,
    config: Config,
    dataset: "Dataset",
    *,
    fresh: bool = False,
    image_size: int | None = None,
) -> "Teacher":
    """The teacher of this run: the one it taught, or the frozen one its config names.

    ``fresh`` gives the one that is still to be taught; ``image_size`` is over the config's.
    """
    settings = config.teacher
    size = settings.image_size if image_size is None else image_size
    if settings.name.startswith(STUDENT):
        from distill.pipeline.pointing import student_as_teacher

        teacher = student_as_teacher(config, dataset.classes, fresh=fresh, image_size=size)
    else:
        teacher = _network_as_teacher(run, config, dataset, fresh=fresh, image_size=size)
    if teacher.card.modality != dataset.modality:
        raise UserError(
            f"{settings.name} reads {_plural(teacher.card.modality)} and {dataset.name} holds "
            f"{_plural(dataset.modality)}; name another --teacher or other --data"
        )
    return teacher


def _network_as_teacher(
    run: Run, config: Config, dataset: "Dataset", *, fresh: bool, image_size: int
) -> "Teacher":
    from teachers import load_teacher

    weights = config.teacher.weights
    if config.teacher.taught and not fresh:
        if not run.taught.is_file():
            # a name that does not exist is the better thing to say: built to find out
            named = config.teacher
            load_teacher(named.name, weights="random", options=named.options)
            raise UserError(
                f"the teacher of {run.folder}, {named.name}, has not been taught yet: run "
                f"{command(run, 'train-teacher')} first, or name frozen weights with --weights "
                "(pretrained, or a file)"
            )
        weights = str(run.teacher)
    return network_of(config, dataset, weights, image_size=image_size)


def network_of(
    config: Config, dataset: "Dataset", weights: str, *, image_size: int | None = None
) -> "Teacher":
    """The network that the config names, with these weights: a word, a file or a folder."""
    from teachers import load_teacher

    settings = config.teacher
    return load_teacher(
        settings.name,
        weights=weights,
        image_size=settings.image_size if image_size is None else image_size,
        pooling=settings.pooling,
        max_length=settings.max_length,
        layer=settings.layer,
        options=settings.options,
        preprocessing=settings.preprocessing,
        classes=dataset.classes,
        device=the_device(config),
        seed=settings.seed,
    )


def the_views(config: Config, dataset: "Dataset") -> "Views | None":
    """The views that the config asks for; None where it asks for none.

    ``StageError`` where these examples have no such views.
    """
    from distill.views import Views

    if config.views.count == 0:
        return None
    views = Views(**config.views.model_dump())
    views.check(dataset.modality)
    return views


def _plural(modality: str) -> str:
    return {"image": "images", "text": "texts"}.get(modality, modality)


def feature_stores(run: Run) -> "dict[str, FeatureStore]":
    """The splits of ``features.zarr``."""
    from stores import open_splits

    if not run.features.exists():
        raise UserError(
            f"no features in {run.folder} yet: run {command(run, 'extract')} "
            f"(or `distill import`) first"
        )
    return open_splits(run.features)


def projected_width(settings: ExtractConfig, dim: int) -> int:
    """Width of what extraction stores of features of ``dim`` numbers."""
    from distill.stages.project import dim_for_factor

    return dim_for_factor(dim, settings.factor)


def projected_as_made(full: "dict[str, FeatureStore]") -> "Projection | None":
    """The map that features went through while they were extracted, if they did."""
    from projections import make_projection

    made = next(iter(full.values())).spec.made_by.get("projection")
    if made is None:
        return None
    widths = {name: made[name] for name in ("dim_in", "dim_out", "seed")}
    return make_projection(made["kind"], **widths)


def projected_stores(
    run: Run, full: "dict[str, FeatureStore]", progress: Progress
) -> "list[tuple[Projected, dict[str, FeatureStore]]]":
    """Every finished projected store of these features, by kind, widest first.

    One that was made from other features (of an earlier extraction) is left out, and said. One
    without the views or the unlabeled examples, which were extracted later, is kept, and said.
    """
    from stores import open_splits

    found = []
    for path in sorted(run.projections.glob("*.json")):
        finding = recall(path, Projected)
        if finding is None or not run.projected(finding.name).exists():
            continue
        splits = open_splits(run.projected(finding.name))
        source = {name: store.spec.made_by.get("source") for name, store in splits.items()}
        missing = set(full) - set(source)
        if missing - set(BESIDE) or source != {
            name: full[name].digest for name in source if name in full
        }:
            progress.say(
                f"{run.projected(finding.name)} was made from other features and is left out; "
                f"delete it and run {command(run, 'project')} again"
            )
            continue
        if missing:
            progress.say(
                f"{run.projected(finding.name)} lacks the {' and the '.join(sorted(missing))} of "
                f"the features: run {command(run, 'project')} again"
            )
        found.append((finding, splits))
    return sorted(found, key=lambda pair: (pair[0].kind, -pair[0].dim_out, pair[0].seed))


def current_students(
    run: Run,
    full: "dict[str, FeatureStore]",
    projected: "Sequence[tuple[Projected, Mapping[str, FeatureStore]]]",
    progress: Progress,
) -> list[Student]:
    """Every finished student of these features; one of others is left out, and said.

    Whose targets were deleted is known by its data alone.
    """
    from distill.schooling import FILE
    from students import read_card

    known = {store.digest for store in full.values()}
    known |= {store.digest for _, splits in projected for store in splits.values()}
    origin = full["train"].spec.made_by
    data = origin.get("fingerprint", origin.get("dataset"))
    found = []
    for path in sorted(run.students.glob("*/student.json")):
        student, file = recall(path, Student), path.with_name(FILE)
        if student is None or not file.is_file():
            continue
        made = read_card(file)["made_by"]
        learned = set(made.get("features", ()))
        if student.target and run.projected(student.target).exists():
            learned |= set(made["target"])
        if made["dataset"] != data or not learned <= known:
            progress.say(
                f"{path.parent} learned from other features and is left out; delete it, or run "
                f"{command(run, 'train-student --overwrite')}"
            )
            continue
        found.append(student)
    return found
