"""``train-teacher`` and ``extract``: from inputs to features."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from distill.config import Config, fingerprint
from distill.findings import Extracted, FoldsTaught, Taught
from distill.options import EXTRACT, TEACH, ExtractOptions, TeachOptions, overrides
from distill.pipeline.building import (
    command,
    network_of,
    projected_width,
    the_device,
    the_teacher,
    the_views,
)
from distill.pipeline.opening import Opened, UserError, one_line, opened_for_writing
from distill.progress import SILENT, Progress
from distill.replacing import replacing
from distill.runs import DEFAULT_RUN, recall, remember, versions

if TYPE_CHECKING:
    from distill.held_out import HeldOut
    from projections import Projection
    from teachers import Teacher


def train_teacher(
    run: Path | str = DEFAULT_RUN,
    *,
    config: Path | str | None = None,
    overwrite: bool = False,
    progress: Progress = SILENT,
    **options: Unpack[TeachOptions],
) -> Taught:
    """Teach a teacher the task: fine-tune its backbone and a linear head, keep the best epoch.

    Killed or interrupted, the same call goes on from the last checkpoint.
    """
    asked = overrides(options, TEACH) | {"teacher.taught": True}
    with opened_for_writing(run, config, asked) as opened:
        return teach(opened, progress=progress, overwrite=overwrite)


def extract(
    run: Path | str = DEFAULT_RUN,
    *,
    config: Path | str | None = None,
    repair: bool = False,
    overwrite: bool = False,
    progress: Progress = SILENT,
    **options: Unpack[ExtractOptions],
) -> Extracted:
    """Run the teacher over every split and keep its features in ``features.zarr``.

    Killed or interrupted, the same call goes on with the next chunk. ``repair`` redoes chunks
    that `distill verify` finds damaged; ``overwrite`` deletes the features and begins anew.
    """
    asked = overrides(options, EXTRACT)
    if options.get("weights") is not None or options.get("random_init"):
        asked["teacher.taught"] = False
    with opened_for_writing(run, config, asked) as opened:
        return take_features(opened, progress=progress, repair=repair, overwrite=overwrite)


def teach(opened: Opened, *, progress: Progress, overwrite: bool = False) -> Taught:
    """The teaching stage on an opened run; finished work is returned as it is."""
    found, made_from = _teach_whole(opened, progress=progress, overwrite=overwrite)
    if opened.config.teach.folds:
        _teach_folds(opened, made_from, progress=progress)
    return found


def _teach_folds(opened: Opened, made_from: str, *, progress: Progress) -> None:
    """Teachers that each learned all but a fold; those that are finished are left as they are."""
    from distill.stages.teach_folds import Course, teach_folds
    from distill.stages.train_teacher import train_teacher as stage

    run, config, dataset = opened.run, opened.config, opened.dataset
    folded = fingerprint(made_from, config.teach.folds)
    if recall(run.folds, FoldsTaught, made_from=folded) is not None:
        progress.say(f"the teachers of {config.teach.folds} folds are taught already")
        return
    if run.folds.is_file():  # where all is taught anew they went with the teacher of before
        raise UserError(
            f"{run.teacher} holds teachers of other folds; name another folder with --run, or "
            "teach all anew with --overwrite"
        )
    opened.keep_config()
    course = Course(
        folder=run.teacher,
        settings=config.teach,
        workers=config.compute.workers,
        batch_size=config.extract.batch_size,
        teach=stage,
        fresh=lambda: the_teacher(run, config, dataset, fresh=True),
        load=lambda folder: network_of(config, dataset, str(folder)),
    )
    found = teach_folds(dataset, course, progress=progress)
    remember(run.folds, found, made_from=folded)


def _held_out(opened: Opened, teacher: "Teacher") -> "HeldOut":
    """The teachers of the folds beside the weights that this run extracts with.

    They are aligned with one teacher's features, and are refused beside any other's.
    """
    from distill.held_out import Folds, HeldOut, folder_of

    run, config, dataset = opened.run, opened.config, opened.dataset
    weights = run.teacher if config.teacher.taught else Path(config.teacher.weights)
    found = recall(weights / run.folds.name, FoldsTaught)
    if found is None:
        raise UserError(
            f"no teachers of folds beside the weights {weights}: run "
            f"{command(run, 'train-teacher --folds 5')} first, or extract without --held-out"
        )
    if found.fingerprint != dataset.fingerprint:
        raise UserError(
            f"the teachers of folds beside {weights} were taught on other data than "
            f"{dataset.name} as this run reads it; extract the same data, or without --held-out"
        )
    for what, then, now in (
        ("layer", found.layer, teacher.card.layer),
        ("pooling", found.pooling, teacher.card.pooling),
        ("weights", found.weights, teacher.card.weights),
    ):
        if then != now:
            raise UserError(
                f"the teachers of folds beside {weights} see as its {what} {then[:20]!r} did, not "
                f"{now[:20]!r}: teach the folds again with --overwrite, or extract without "
                "--held-out"
            )
    teachers = [
        network_of(config, dataset, str(folder_of(weights, fold)))
        for fold in range(len(found.folds))
    ]
    return HeldOut(Folds.load(weights), tuple(teachers))


def _teach_whole(opened: Opened, *, progress: Progress, overwrite: bool) -> tuple[Taught, str]:
    from distill.augmentations import check_augmentation
    from distill.stages.train_teacher import train_teacher as stage

    run, config = opened.run, opened.config
    dataset = opened.dataset
    before = {"augment": "", "precision": "auto"}  # runs of before these were settings
    untold = {name for name, value in before.items() if getattr(config.teach, name) == value}
    made_from = fingerprint(
        config.teacher.model_dump(exclude={"taught", "layer"}),
        config.teach.model_dump(exclude={*untold, "folds"}),
        dataset.fingerprint,
    )
    finished = recall(run.taught, Taught, made_from=made_from)
    if finished is not None and not overwrite:
        progress.say(f"{run.teacher} is taught already")
        return finished, made_from
    if run.taught.is_file() and not overwrite:
        raise UserError(
            f"{run.teacher} was taught otherwise (another teacher, data, or settings of "
            "teaching); name another folder with --run, or teach it anew with --overwrite"
        )
    if config.teach.augment:
        check_augmentation(config.teach.augment, dataset.modality)
    teacher = the_teacher(run, config, dataset, fresh=True)
    opened.keep_config()
    with replacing(run.teacher, wanted=overwrite, made_from=made_from) as folder:
        found = stage(
            dataset,
            teacher,
            folder=folder,
            settings=config.teach,
            workers=config.compute.workers,
            progress=progress,
        )
        remember(folder / run.taught.name, found, made_from=made_from)
    run.record_environment(device=the_device(config))
    return found, made_from


def the_projection(config: Config, teacher: "Teacher") -> "Projection | None":
    """The map that features go through as they are made; None keeps their full width."""
    from distill.sweeping.maps import needs_data
    from projections import make_projection

    settings = config.extract
    if settings.factor == 1:
        return None
    if needs_data(settings.kind):
        raise UserError(
            f"a {settings.kind} map is computed from features, and none are there while they are "
            "extracted; name a kind that is drawn from a seed, or extract without --factor and "
            "project then"
        )
    dim = teacher.card.dim
    k = projected_width(settings, dim)
    return make_projection(settings.kind, dim_in=dim, dim_out=k, seed=settings.seed)


def take_features(
    opened: Opened, *, progress: Progress, repair: bool = False, overwrite: bool = False
) -> Extracted:
    """The extraction stage on an opened run; finished chunks are left as they are."""
    from distill.sources import sources_of
    from distill.stages.extract import check_held_out
    from distill.stages.extract import extract as stage
    from stores import StoreMismatchError

    run, config = opened.run, opened.config
    dataset = opened.dataset
    views, pool = the_views(config, dataset), opened.pool
    teacher = the_teacher(run, config, dataset)
    projection = the_projection(config, teacher)
    held_out = _held_out(opened, teacher) if config.extract.held_out else None
    check_held_out(held_out, views)
    sources_of(dataset, views, pool)  # refused before features are deleted
    notes = [*dataset.notes, *(() if pool is None else pool.notes)]
    if config.data.limit:
        notes.append(
            f"limited to {config.data.limit} examples of each split: a first look, not a result"
        )
    if config.teacher.weights == "random" and not config.teacher.taught:
        notes.append("the teacher's weights are random: these are the features of no training")
    if held_out is not None:
        notes.append(
            f"training rows are seen by {len(held_out.teachers)} teachers, each of a fold that it "
            "never learned, in the whole teacher's coordinates"
        )
    if projection is not None:
        notes.append(
            f"the features were projected as they were made, from {projection.dim_in} to "
            f"{projection.dim_out} dimensions, by the {projection.kind} map of seed "
            f"{projection.seed}; factors from here on count from {projection.dim_out}"
        )
    opened.keep_config()
    if overwrite and run.features.exists():
        run.extracted.unlink(missing_ok=True)  # it must not speak for other features
        shutil.rmtree(run.features)
    try:
        found = stage(
            dataset,
            teacher,
            run.features,
            settings=config.extract,
            made_by={"versions": versions()},
            workers=config.compute.workers,
            progress=progress,
            repair=repair,
            views=views,
            pool=pool,
            projection=projection,
            held_out=held_out,
        )
    except StoreMismatchError as error:
        anew = command(run, "extract --overwrite")
        raise UserError(f"{one_line(error)}; {anew} makes all splits anew") from error
    run.record_environment(device=the_device(config))
    earlier = recall(run.extracted, Extracted)
    if found.rows_written == 0 and earlier is not None:
        progress.say(f"{run.features} is complete already; `distill verify` checks its bytes")
        return earlier
    found = replace(found, data_note=dataset.note, notes=(*notes, *found.notes))
    remember(run.extracted, found, made_from=fingerprint(dataset.fingerprint, teacher.card.weights))
    return found
