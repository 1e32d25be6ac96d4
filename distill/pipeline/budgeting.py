"""``frontier``: what accuracy costs, of a nested network of a run and of its rivals."""

import copy
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from distill.config import FrontierConfig, NestConfig, fingerprint
from distill.findings import Frontier, Nested
from distill.options import FRONTIER, FrontierOptions, overrides
from distill.pipeline.building import command, the_device
from distill.pipeline.nesting import nested_name, subject_of
from distill.pipeline.opening import Opened, UserError, opened_for_writing
from distill.progress import SILENT, Progress
from distill.replacing import replacing
from distill.runs import DEFAULT_RUN, recall

if TYPE_CHECKING:  # quoted below, so that naming the parts does not load torch
    from distill.classroom import Classroom
    from distill.contestants import Ground
    from distill.nesting import Subject
    from students import Feed
    from students.nested import SavedNested

SPLITS = ("train", "validation", "test")


def frontier(
    run: Path | str = DEFAULT_RUN,
    *,
    config: Path | str | None = None,
    overwrite: bool = False,
    progress: Progress = SILENT,
    **options: Unpack[FrontierOptions],
) -> Frontier:
    """Measure accuracy against FLOPs and time, of a nested network at many budgets and of rivals.

    Rivals that learn get the nested network's recipe: the same rows, distillation and updates. The
    budget to pick is chosen on validation; test is read once by each finished network. Killed or
    interrupted, the same call goes on; finished networks are kept.
    """
    with opened_for_writing(run, config, overrides(options, FRONTIER)) as opened:
        return measure_frontier(opened, progress=progress, overwrite=overwrite)


def measure_frontier(opened: Opened, *, progress: Progress, overwrite: bool = False) -> Frontier:
    """The frontier on an opened run, and its three files."""
    from distill.contestants import RIVALS, Many, Nested, dense_of, why_not
    from distill.rank_lessons import hint_notes
    from distill.reporting import write_frontier
    from distill.stages.frontier import Field
    from distill.stages.frontier import frontier as stage
    from distill.training_rows import fresh_note

    run, settings = opened.run, opened.config.frontier
    _check_rivals(settings, RIVALS)
    subject = subject_of(opened, opened.config.nest)
    name = nested_name(opened.config.nest, subject.name)
    finding, saved, start = _nested(opened, name)
    _check_same(opened, subject, name, saved)
    opened.keep_config()
    learned = _learned(saved)
    feeds = _feeds(opened, subject)
    ground = _ground(opened, subject, finding, saved, start, learned, feeds["train"])
    room = _class(opened, subject, saved, learned, feeds, ground, progress)
    left_out = {each: why for each in settings.rivals if (why := why_not(each, ground))}
    for each, why in left_out.items():
        progress.say(f"{each} is left out: {why}")
    many = Many(seeds=settings.rival_seeds, networks=settings.rank_networks)
    rivals = [RIVALS[each](ground, many) for each in settings.rivals if each not in left_out]
    network = fingerprint(saved.card["made_by"])
    field = Field(
        nested=name,
        network=network,
        teacher=finding.of if opened.config.nest.student else opened.config.teacher.name,
        measured_at=saved.path.measured_at,
        dense_flops=ground.flops,
        classes=len(opened.dataset.classes),
        dense=dense_of(ground),
        contestants=[Nested(ground=ground, seeds=settings.seeds), *rivals],
        inputs=ground.example[0],
        notes=[
            *([fresh_note(learned.augment, learned.mix)] if learned.augment else []),
            *hint_notes(learned.hint_weight, room.spreads),
            *(f"{each} is left out: {why}" for each, why in left_out.items()),
        ],
    )
    with replacing(run.frontiers / name, wanted=overwrite, made_from=network) as folder:
        found = stage(field, room, folder=folder, settings=settings)
    found.save(run.frontier)
    write_frontier(found, run.folder, title=opened.config.title)
    return found


def finished_frontier(opened: Opened, progress: Progress) -> Frontier | None:
    """The run's frontier; None where there is none, or none of its nested network, as is said."""
    run = opened.run
    found = recall(run.frontier, Frontier)
    if found is None:
        return None
    from distill.stages.nest import RECORD

    record = run.nested / found.nested / RECORD
    if recall(record, Nested, made_from=found.network) is not None:
        return found
    progress.say(
        f"{run.frontier} is of a nested network that is gone or was nested anew, {found.nested}: "
        f"left out; {command(run, 'frontier')} measures what there is"
    )
    return None


def _check_rivals(settings: FrontierConfig, known: Mapping[str, Any]) -> None:
    from students.errors import nearest

    for name in settings.rivals:
        if name not in known:
            raise UserError(f"no rival named {name!r}{nearest(name, known)}")


# --- what there is --------------------------------------------------------------------------------


def _nested(opened: Opened, name: str) -> "tuple[Nested, SavedNested, SavedNested]":
    """The finding, the taught network and its start."""
    from distill.stages.nest import FILE, RECORD, START
    from students.nested import read_nested

    run = opened.run
    folder = run.nested / name
    finding = recall(folder / RECORD, Nested)
    if finding is None or not (folder / FILE).is_file():
        there = sorted(path.parent.name for path in run.nested.glob(f"*/{RECORD}"))
        known = f"; there are: {', '.join(there)}" if there else ""
        raise UserError(
            f"no nested network {name} in {run.folder}: run {command(run, 'nest')} first, or name "
            f"another with --name{known}"
        )
    return finding, read_nested(folder / FILE), read_nested(folder / START)


def _check_same(opened: Opened, subject: "Subject", name: str, saved: "SavedNested") -> None:
    """Refuse a nested network of other data or of another dense network, and rows for labels."""
    then = saved.card["made_by"]
    if then["dataset"] != opened.dataset.fingerprint:
        raise UserError(f"{name} was nested on other data than {opened.dataset.name} holds now")
    if then["network"] != subject.made_by["network"]:
        raise UserError(
            f"{name} was made of another network than {subject.name} is now: run "
            f"{command(opened.run, 'nest --overwrite')}"
        )
    if then["stored"]:
        raise UserError(
            f"{name} learned stored rows, and rivals learn labels: nest with --targets labels"
        )


def _learned(saved: "SavedNested") -> NestConfig:
    """The settings that it was nested with, whatever the config says by now."""
    then = saved.card["made_by"]
    return NestConfig(**{name: then[name] for name in NestConfig.model_fields if name in then})


def _feeds(opened: Opened, subject: "Subject") -> "dict[str, Feed]":
    from students import make_feed

    splits, workers = opened.dataset.splits, opened.config.compute.workers
    for name in SPLITS:
        if name not in splits or not len(splits[name].ids) or splits[name].labels is None:
            raise UserError(f"{opened.dataset.name} has no labelled examples in its {name} split")
    return {
        name: make_feed(splits[name].inputs, subject.prepare, {}, workers=workers)
        for name in SPLITS
    }


def _ground(
    opened: Opened,
    subject: "Subject",
    finding: Nested,
    saved: "SavedNested",
    start: "SavedNested",
    learned: NestConfig,
    train: "Feed",
) -> "Ground":
    """What all contestants are made of."""
    from distill.contestants import Ground
    from distill.nesting import calibration_of, example_of
    from students.nested import fill

    settings, device = opened.config.frontier, the_device(opened.config)
    dense = subject.network.to(device).eval().requires_grad_(True)
    taught = {round(share, 9) for share in saved.card["lessons"]}
    example = example_of(opened.dataset.splits["train"], subject.prepare)
    return Ground(
        dense=dense,
        include=tuple(learned.include),
        calibration=calibration_of(train, learned.calibration, seed=learned.seed, device=device),
        example=({name: tensor.to(device) for name, tensor in example[0].items()},),
        path=saved.path,
        lessons=tuple(p.ranks for p in saved.path.points if round(p.share, 9) in taught),
        gauges=saved.surgery.gauges,
        own_biases=saved.surgery.has_own,
        start=lambda: fill(copy.deepcopy(dense), start),
        taught=lambda: fill(copy.deepcopy(dense), saved),
        updates=finding.updates,
        points=settings.points,
        budgets=settings.budgets,
    )


def _class(
    opened: Opened,
    subject: "Subject",
    saved: "SavedNested",
    learned: NestConfig,
    feeds: "Mapping[str, Feed]",
    ground: "Ground",
    progress: Progress,
) -> "Classroom":
    """What all learn and answer."""
    from distill.classroom import Classroom
    from distill.labelled import labels_of
    from distill.rank_lessons import objective_of, recipe_of
    from distill.training_rows import fresh_rows

    recipe = recipe_of(learned)
    own = set(recipe.__dataclass_fields__)
    made_by = {key: value for key, value in saved.card["made_by"].items() if key not in own}
    dataset = opened.dataset
    fresh = partial(
        fresh_rows,
        dataset.splits["train"],
        augment=learned.augment,
        mix=learned.mix,
        modality=dataset.modality,
        prepare=subject.prepare,
        workers=opened.config.compute.workers,
    )
    return Classroom(
        feeds=feeds,
        labels={name: labels_of(dataset.splits[name]) for name in SPLITS},
        dense=ground.dense,
        recipe=recipe,
        objective=objective_of(learned),
        calibration=ground.calibration,
        made_by={**made_by, "nest_seed": learned.seed},
        device=the_device(opened.config),
        progress=progress,
        fresh=fresh if learned.augment else None,
        hinted=tuple(layer.name for layer in saved.surgery.layers),
    )
