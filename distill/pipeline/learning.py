"""``train-head`` and ``train-student``: classifiers on stored features."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from distill.config import Config, NestConfig, StudentConfig
from distill.findings import Heads, Projected, Students
from distill.options import STUDENT, HeadOptions, StudentOptions, overrides
from distill.pipeline.building import (
    command,
    feature_stores,
    projected_stores,
    the_device,
    the_teacher,
)
from distill.pipeline.mapping import store_name
from distill.pipeline.nesting import nest_network
from distill.pipeline.opening import Opened, UserError, opened_for_writing
from distill.progress import SILENT, Progress
from distill.runs import DEFAULT_RUN, POOL, Run

if TYPE_CHECKING:
    from distill.datasets import Dataset
    from distill.lessons import Lesson
    from stores import FeatureStore
    from students import Blueprint
    from teachers import Teacher

AUTO_STUDENT = "auto"
SUBSPACE = "subspace"  # the way whose targets are the projected rows
NESTED = "nested/"  # before the name of a student that is nested once it is taught
NESTABLE = ("mlp", "attention", "convolution")  # presets, of those that find layers in a student
FULL = "full"  # the head on the features as they are, and these as a target

Stores = dict[str, "FeatureStore"]


def train_head(
    run: Path | str = DEFAULT_RUN,
    *,
    config: Path | str | None = None,
    progress: Progress = SILENT,
    **options: Unpack[HeadOptions],
) -> Heads:
    """Train a linear head on the full features and one on every projected store.

    Its l2 is chosen on validation; the test split is read once, for the final number.
    """
    with opened_for_writing(run, config, overrides(options)) as opened:
        return fit_heads(opened, progress=progress)


def train_student(
    run: Path | str = DEFAULT_RUN,
    *,
    config: Path | str | None = None,
    overwrite: bool = False,
    progress: Progress = SILENT,
    **options: Unpack[StudentOptions],
) -> Students:
    """Train a compact network on the projected targets; the teacher-side head is carried over.

    With ``baselines`` the same network is also trained from labels only and by logit
    distillation. Killed or interrupted, the same call goes on from the last checkpoint.
    """
    with opened_for_writing(run, config, overrides(options, STUDENT)) as opened:
        return teach_students(opened, progress=progress, overwrite=overwrite)


def fit_heads(opened: Opened, *, progress: Progress) -> Heads:
    """The head stage on an opened run; heads of the same stores and settings are kept."""
    from distill.stages.train_head import train_heads as stage

    run = opened.run
    full = feature_stores(run)
    projected = projected_stores(run, full, progress)
    device = the_device(opened.config)
    found = stage(
        full,
        projected,
        folder=run.heads,
        settings=opened.config.head,
        progress=progress,
        device=device if device.startswith("cuda") else "cpu",  # Apple's has no float64
    )
    if not projected:
        progress.say(f"no projected stores in {run.folder}: there is only the full head")
    return found


def teach_students(opened: Opened, *, progress: Progress, overwrite: bool = False) -> Students:
    """The student stage on an opened run; finished students are left as they are."""
    from distill.stages.train_student import train_student as stage

    config = opened.config
    lesson, settings = lesson_of(opened, progress=progress)
    nesting = _nesting(opened, lesson, settings) if is_nested(config.student) else None
    opened.keep_config()
    found = stage(
        opened.dataset,
        lesson,
        settings=settings,
        root=opened.run.students,
        workers=config.compute.workers,
        device=the_device(config),
        progress=progress,
        overwrite=overwrite,
    )
    if nesting is None:
        return found
    nesting = nesting.model_copy(update={"student": found.students[0].name})
    nested = nest_network(opened, settings=nesting, progress=progress, overwrite=overwrite)
    return replace(found, nested=nested)


def is_nested(settings: StudentConfig) -> bool:
    """Whether the student becomes a network of any budget."""
    return settings.name.startswith(NESTED)


def _nesting(opened: Opened, lesson: "Lesson", settings: StudentConfig) -> NestConfig:
    """How the student is nested once it is taught; ``SurgeryError`` where it cannot be.

    By the config's ``[nest]``, from the stored rows that it learned; all kinds of layers that it
    has, unless that names others.
    """
    from distill.identity import blueprint_of
    from students import build
    from students.nested import PRESETS, holds_a_matrix, select

    _check_nesting(opened.config, opened.dataset.modality)
    network = build(blueprint_of(opened.dataset, lesson, settings))
    layers = [(name, layer) for name, layer in network.named_modules() if holds_a_matrix(layer)]
    nest = opened.config.nest
    include = nest.include
    if include == NestConfig().include:
        there = (word for word in NESTABLE if any(PRESETS[word](*layer) for layer in layers))
        include = tuple(there) or include
    select(network, include)
    targets = "projected" if settings.way == SUBSPACE else "labels"
    return nest.model_copy(update={"include": include, "targets": targets})


def network_of(settings: StudentConfig) -> StudentConfig:
    """The student's settings, whether or not it is nested afterwards."""
    return settings.model_copy(update={"name": settings.name.removeprefix(NESTED)})


def lesson_of(opened: Opened, *, progress: Progress) -> "tuple[Lesson, StudentConfig]":
    """What a student is to learn, matched with the data, and which network it is."""
    run, config = opened.run, opened.config
    full = feature_stores(run)
    if config.data.name.startswith("import:"):
        raise UserError(
            f"the features of {run.folder} were imported: a student needs the inputs they were "
            "made from; extract them with a teacher, or stop at `distill train-head`"
        )
    name, targets = _chosen(opened, full, progress)
    dataset = opened.dataset
    _same_data(run, dataset, full)
    fit_heads(opened, progress=progress)
    lesson = _lesson(opened, dataset, name, targets, full)
    settings = _settled(opened, lesson, dataset)
    if settings != network_of(config.student):
        progress.say(f"the student is {settings.name} with {settings.options}")
    return lesson, settings


def _check_nesting(config: Config, modality: str) -> None:
    """Refuse what a student cannot learn once it is nested."""
    from distill.views import Views

    asked = []
    if config.nest.augment:
        Views(count=1, augment=config.nest.augment, mix=config.nest.mix).check(modality)
        asked.append("nest.augment asks for views of them")
    if config.nest.hint_weight:
        asked.append("nest.hint_weight for what the student gave before")
    if asked and config.student.way == SUBSPACE:
        raise UserError(
            "once nested, the student learns the projected rows of the examples as they are, and "
            f"{' and '.join(asked)}: leave that out, or teach by another --way than {SUBSPACE}"
        )


def check_student(config: Config, modality: str) -> None:
    """Refuse a student that cannot be built or taught, before hours are spent on its targets."""
    from distill.objectives import refuse_decoupled
    from distill.rivals import refuse_what_needs_the_space
    from students import StudentError, UnknownStudentError, build_student

    if is_nested(config.student):
        _check_nesting(config, modality)
    settings = network_of(config.student)
    if settings.way == SUBSPACE:
        refuse_decoupled(settings)
    else:
        refuse_what_needs_the_space(settings)
    if settings.name == AUTO_STUDENT:  # chosen when the teacher's cost is known
        return
    try:
        build_student(
            settings.name,
            dim_out=1,
            modality=modality,
            options=settings.options,
            image_size=settings.image_size or config.teacher.image_size,
            vocabulary=1,
        )
    except UnknownStudentError:
        raise
    except StudentError:
        if ":" not in settings.name:  # a factory of one's own may refuse this width alone
            raise


def _same_data(run: Run, dataset: "Dataset", full: Stores) -> None:
    """A student learns stored targets from inputs: they must be those the features were made of."""
    stored = full["train"].spec.made_by.get("fingerprint")
    if stored != dataset.fingerprint:
        raise UserError(
            f"{dataset.name} does not hold the data that {run.features} was made from any more "
            f"(fingerprint {str(stored)[:12]} there, {dataset.fingerprint[:12]} now): bring the "
            f"data back, or run {command(run, 'extract --overwrite')}"
        )


def _same_teacher(run: Run, teacher: "Teacher", full: Stores) -> None:
    """Inputs are prepared as this teacher reads them: it must be the one that made the features."""
    from students import plain_settings

    made_by, card = full["train"].spec.made_by, teacher.card
    then = {**made_by["preprocessing"], "weights": made_by["weights"]}
    now = plain_settings({**card.preprocessing, "weights": card.weights})
    differing = sorted(name for name in then.keys() | now.keys() if then.get(name) != now.get(name))
    if differing:
        raise UserError(
            f"{card.name} has other {', '.join(differing)} now than when it made "
            f"{run.features}: bring back what it was, or run {command(run, 'extract --overwrite')}"
        )


def _chosen(opened: Opened, full: Stores, progress: Progress) -> tuple[str, Stores]:
    """Name and splits of what is learned: a projected store, or the features as they are.

    The config's kind, factor and first seed name the store. Factor 1, and features that were
    projected as they were made, are learned as they are.
    """
    from distill.stages.project import dim_for_factor

    run, config = opened.run, opened.config
    settings = config.project
    dim = full["train"].spec.dim
    name = store_name(settings, dim_for_factor(dim, config.student.factor), settings.seeds[0])
    there = {found.name: (found, stores) for found, stores in projected_stores(run, full, progress)}
    if name in there:
        _same_map(run, *there[name])
        return name, there[name][1]
    made_small = "projection" in full["train"].spec.made_by
    if config.student.factor == 1 or made_small:
        return FULL, full
    known = ", ".join(
        f"{found.name} (--factor {found.factor_asked:g})" for found, _ in there.values()
    )
    words = command(run, f"project --kind {settings.kind} --factor {config.student.factor:g}")
    raise UserError(
        f"no projected store {name} (factor {config.student.factor:g}) in {run.folder}: run "
        f"{words} first" + (f", or choose from {known}" if known else "")
    )


def _same_map(run: Run, found: Projected, stores: Stores) -> None:
    """Of one width are rows of many maps: a store holds those of the map that it is named after."""
    for store in stores.values():
        made = store.spec.made_by["projection"]
        if (made["kind"], made["seed"]) != (found.kind, found.seed):
            again = f"project --kind {found.kind} --factor {found.factor_asked:g}"
            raise UserError(
                f"{store.path} holds rows of the {made['kind']} map of seed {made['seed']}, not of "
                f"the {found.kind} map of seed {found.seed}: delete {run.projected(found.name)} "
                f"and run {command(run, again)}"
            )


def _lesson(
    opened: Opened, dataset: "Dataset", name: str, targets: Stores, full: Stores
) -> "Lesson":
    from distill.lessons import Lesson
    from students import load_head

    run, config = opened.run, opened.config
    teacher = the_teacher(run, config, dataset)
    _same_teacher(run, teacher, full)
    size = config.student.image_size
    # the student sees what the teacher sees unless told another size
    seen = teacher if size == 0 else the_teacher(run, config, dataset, image_size=size)
    classes = full["train"].spec.classes
    heads = {
        at: load_head(
            run.heads / at / "head.safetensors", dim=stores["train"].spec.dim, classes=classes
        )[0]
        for at, stores in ((name, targets), (FULL, full))
    }
    full_head = heads[FULL]
    return Lesson(
        target=name,
        targets=targets,
        features=full,
        head=heads[name],
        full_head=full_head,
        teacher=full["train"].spec.made_by["weights"],
        teacher_parameters=teacher.card.parameters + full_head.weight.size + full_head.bias.size,
        prepare=seen.prepare,
        preprocessing=seen.card.preprocessing,
        pool=opened.pool if POOL in full else None,
        embeddings=_embeddings(teacher) if config.student.embeddings == "teacher" else None,
    )


def _embeddings(teacher: "Teacher") -> Any:
    """The teacher's token embeddings (tokens, width) float32; None where it has none.

    Rows beyond its tokenizer's vocabulary, which only make the table's size a round one, are of
    no token.
    """
    from torch import nn

    network: Any = getattr(teacher.module, "network", None)
    table = network.get_input_embeddings() if hasattr(network, "get_input_embeddings") else None
    if not isinstance(table, nn.Embedding):  # a network of images has its patches' instead
        return None
    tokenizer = getattr(teacher.prepare, "tokenizer", None)
    tokens = table.num_embeddings if tokenizer is None else len(tokenizer)
    return table.weight[:tokens].detach().float().cpu().numpy()


def _settled(opened: Opened, lesson: "Lesson", dataset: "Dataset") -> StudentConfig:
    """The student's settings, with a network in the place of ``auto``."""
    from distill.identity import blueprint_of

    settings = network_of(opened.config.student)
    if settings.name != AUTO_STUDENT:
        return settings
    teacher = the_teacher(opened.run, opened.config, dataset)
    chosen = within_budget(blueprint_of(dataset, lesson, settings), settings, teacher, dataset)
    return settings.model_copy(update={"name": chosen.name, "options": chosen.options})


def within_budget(
    blueprint: "Blueprint", settings: StudentConfig, teacher: "Teacher", dataset: "Dataset"
) -> "Blueprint":
    """The blueprint as it is, or with the costliest network of the budget in place of ``auto``."""
    from distill.stages.measure import count_multiply_adds
    from students import Classifier, choose_student, fresh_head

    if settings.name != AUTO_STUDENT:
        return blueprint
    classes = len(dataset.classes)
    head = fresh_head(teacher.card.dim, classes, seed=0).to(teacher.device)
    inputs = dataset.splits["train"].inputs
    some = sorted((inputs[row] for row in range(min(64, len(inputs)))), key=_length)
    prepared = teacher.prepare([some[len(some) // 2]])  # of middling length
    placed = {name: tensor.to(teacher.device) for name, tensor in prepared.items()}
    adds, _ = count_multiply_adds(Classifier(teacher.module, head).eval(), placed)
    return choose_student(
        blueprint,
        teacher_multiply_adds=adds,
        budget=settings.budget,
        tokens=prepared["input_ids"].shape[1] if "input_ids" in prepared else 0,
        classes=classes,
    )


def _length(example: Any) -> int:
    """Characters of a text or a pair of them; images are all of one length."""
    if isinstance(example, str):
        return len(example)
    return sum(map(len, example)) if isinstance(example, tuple | list) else 0
