"""``compare-students``: every way to teach is given the same network, data, views and trials."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from distill.config import CompareConfig, StudentConfig
from distill.findings import Comparison, Fixed
from distill.options import COMPARE, CompareOptions, overrides
from distill.pipeline.building import (
    command,
    feature_stores,
    projected_as_made,
    projected_stores,
    the_device,
    the_teacher,
    the_views,
)
from distill.pipeline.learning import FULL, lesson_of
from distill.pipeline.mapping import maps_for, store_name
from distill.pipeline.opening import Opened, UserError, opened_for_writing
from distill.progress import SILENT, Progress
from distill.runs import DEFAULT_RUN, recall

if TYPE_CHECKING:
    from distill.comparing.contenders import Contender
    from distill.desk import Method
    from distill.entrants import Entrant
    from distill.findings import Cost
    from distill.lessons import Lesson
    from distill.schooling import School
    from distill.stages.compare_students import Ground

# of a student's settings: these decide no trial, or every way has its own
NOT_COMPARED = {"seed", "baselines", "budget", "factor", "decouple"}
TEXT_VIEWS, IMAGE_VIEWS = "token-dropout", "crop-flip"  # of the teacher online, unless named


def compare_students(
    run: Path | str = DEFAULT_RUN,
    *,
    config: Path | str | None = None,
    search_only: bool = False,
    overwrite: bool = False,
    progress: Progress = SILENT,
    **options: Unpack[CompareOptions],
) -> Comparison | Fixed:
    """Teach one network in several ways, tuned alike, and say which is ahead.

    Settings are searched on validation and fixed in ``compare/recipe.json`` before a student
    answers test rows, then each way is taught with fresh seeds. Killed or interrupted, the same
    call goes on; finished trainings are kept. ``search_only`` stops at the recipe.
    """
    with opened_for_writing(run, config, overrides(options, COMPARE)) as opened:
        return compare_all(opened, progress=progress, search_only=search_only, overwrite=overwrite)


def compare_all(
    opened: Opened, *, progress: Progress, search_only: bool = False, overwrite: bool = False
) -> Comparison | Fixed:
    """The comparison on an opened run, and its three files; or its recipe alone."""
    from distill.comparing.contenders import contenders
    from distill.reporting import write_comparison
    from distill.stages import compare_students as stage

    run, config = opened.run, opened.config
    # a wrong name is refused before any work
    asked = contenders(config.compare.methods, reference=config.compare.reference)
    lesson, settings = lesson_of(opened, progress=progress)
    taking_part, left_out = _taking_part(asked, opened, settings)
    for line in left_out:
        progress.say(line)
    builder = _Builder(opened, lesson, settings, taking_part, progress)
    entrants = [builder.entrant(one) for one in taking_part]
    opened.keep_config()
    named = _by_their_names(config.compare, taking_part, left_out)
    told: Any = {"folder": run.comparisons, "settings": named, "progress": progress}
    ground = builder.ground(left_out)
    if search_only:
        fixed = stage.fix_recipe(entrants, ground, overwrite=overwrite, **told)
        if overwrite:  # what was found by another recipe speaks no more
            for file in (run.compared, *map(run.compared.with_suffix, (".md", ".html"))):
                file.unlink(missing_ok=True)
        return fixed
    found = stage.compare_students(entrants, ground, overwrite=overwrite, **told)
    found.save(run.compared)
    write_comparison(found, run.folder, title=config.title)
    return found


def finished_comparison(opened: Opened, progress: Progress) -> Comparison | None:
    """The run's comparison; None where there is none, or one of other rows, which is said."""
    run = opened.run
    found = recall(run.compared, Comparison)
    if found is None:
        return None
    full = feature_stores(run)
    targets = {one.name: stores for one, stores in projected_stores(run, full, progress)}
    stores = full if found.target == FULL else targets.get(found.target, {})
    if "train" not in stores or stores["train"].digest != found.digest:
        progress.say(
            f"{run.compared} is of other rows and is left out: run "
            f"{command(run, 'compare-students')} again"
        )
        return None
    return found


def _by_their_names(
    settings: CompareConfig, taking_part: "Sequence[Contender]", left_out: Sequence[str]
) -> CompareConfig:
    """The settings with ways as they are called in full; ``UserError`` for a reference left out."""
    from distill.comparing.contenders import contender

    reference = contender(settings.reference).name
    if reference not in {one.name for one in taking_part}:
        why = next((line for line in left_out if line.startswith(f"{reference} ")), "")
        raise UserError(f"compare.reference: all are compared with {reference}, and {why}")
    always = tuple(contender(name).name for name in settings.always)
    return settings.model_copy(update={"reference": reference, "always": always})


def _taking_part(
    asked: "Sequence[Contender]", opened: Opened, settings: StudentConfig
) -> "tuple[list[Contender], list[str]]":
    """Who can take part on these data, and why the others cannot."""
    found, left_out = [], []
    for one in asked:
        if not one.method and opened.dataset.modality != "text":
            left_out.append(
                f"{one.name} is left out: it reads texts, and {opened.dataset.name} holds "
                f"{opened.dataset.modality}s"
            )
        elif one.name == "pretrained" and settings.weights == "random":
            left_out.append(
                "pretrained is left out: name a file of the student's weights with "
                "--student-weights"
            )
        else:
            found.append(one)
    return found, left_out


@dataclass(frozen=True, eq=False)
class _Builder:
    """Makes the entrants of one run; what they share is made once."""

    opened: Opened
    lesson: "Lesson"
    settings: StudentConfig
    asked: "Sequence[Contender]"
    progress: Progress

    @cached_property
    def school(self) -> "School":
        """Where all networks are taught, with every way to teach that there is."""
        from distill.pupils import METHODS
        from distill.rivals import RIVALS
        from distill.schooling import open_school

        config = self.opened.config
        school = open_school(
            self.opened.dataset,
            self.lesson,
            workers=config.compute.workers,
            device=the_device(config),
            progress=self.progress,
        )
        methods = {**METHODS, **RIVALS}
        if any(one.method == "online" for one in self.asked):
            methods["online"] = self._online(school)
        school = replace(school, methods=methods)
        school.material(self.settings)  # before it is shared with other targets
        return school

    def entrant(self, one: "Contender") -> "Entrant":
        """One way to teach, ready to begin."""
        if not one.method:
            return self._texts(one)
        from distill.entrants import Network

        school = self.school
        if one.kind:
            school = school.aiming_at(self._other_target(one))
        return Network(
            contender=one, school=school, settings=self._begun(one), measure=self._measured
        )

    def ground(self, left_out: Sequence[str]) -> "Ground":
        """What all are compared on."""
        from distill.stages.compare_students import Ground

        dataset, splits = self.opened.dataset, self.school.splits
        return Ground(
            lesson=self.lesson,
            network=self.settings.name,
            epochs=self.settings.epochs,
            rows={name: len(part.ids) for name, part in splits.items()},
            labels=splits["test"].labels,
            teachers=self.school.teachers,
            classes=dataset.classes,
            made_by=self._made_by(),
            left_out=left_out,
        )

    def _begun(self, one: "Contender") -> StudentConfig:
        """With weights from a file where it is the way of who begins with them, or of all."""
        pretrained = any(other.name == "pretrained" for other in self.asked)
        if pretrained and one.name != "pretrained":
            return self.settings.model_copy(update={"weights": "random"})
        return self.settings

    def _measured(self, module: Any, prepared: Any) -> "Cost":
        from distill.stages.measure import measure

        device = the_device(self.opened.config)
        return measure("student", "student", module, prepared, device=device, batches=(1,))

    def _other_target(self, one: "Contender") -> "Lesson":
        """The lesson with the store of another kind of map, of the same width."""
        from students import load_head

        opened, k = self.opened, self.lesson.targets["train"].spec.dim
        run, settings = opened.run, opened.config.project
        name = store_name(settings, k, settings.seeds[0], kind=one.kind)
        full = feature_stores(run)
        stores = {found.name: those for found, those in projected_stores(run, full, self.progress)}
        if name not in stores:
            factor = f"{full['train'].spec.dim / k:g}"
            raise UserError(
                f"{one.name} learns the store {name}, which {run.folder} does not hold: run "
                f"{command(run, f'project --kind {one.kind} --factor {factor}')} first"
            )
        path = run.heads / name / "head.safetensors"
        head, _ = load_head(path, dim=k, classes=full["train"].spec.classes)
        return replace(self.lesson, target=name, targets=stores[name], head=head)

    def _online(self, school: "School") -> "Method":
        """The teacher beside its student."""
        from distill.rivals import online
        from distill.views import Views

        opened, config = self.opened, self.opened.config
        teacher = the_teacher(opened.run, config, opened.dataset)
        modality = opened.dataset.modality
        views = the_views(config, opened.dataset) or Views(
            count=1, augment=TEXT_VIEWS if modality == "text" else IMAGE_VIEWS
        )
        projection = self._projection()
        return online(
            school.splits["train"],
            modality,
            views,
            embed=lambda inputs: teacher.embed(teacher.prepare(inputs)).features,
            project=lambda rows: rows if projection is None else projection.transform(rows),
        )

    def _projection(self) -> Any:
        """The map from the teacher's features to the targets; None where they are the same."""
        opened, target = self.opened, self.lesson.target
        full = feature_stores(opened.run)
        if target == FULL:
            return projected_as_made(full)
        settings, k = opened.config.project, self.lesson.targets["train"].spec.dim
        return maps_for(opened, full["train"], settings.kind, [k], settings.seeds[0])[0]

    def _texts(self, one: "Contender") -> "Entrant":
        from distill.comparing.text import static_model, static_regression, tfidf
        from distill.text_entrants import Texts

        opened, classes = self.opened, len(self.opened.dataset.classes)
        made_by = {"dataset": opened.dataset.fingerprint}
        if one.name == "tfidf":
            fit = partial(tfidf, classes=classes)
        else:
            network = opened.config.teacher.name.partition("/")[2]
            model = static_model(network, opened.run.comparisons / "model2vec" / "static")
            made_by["network"] = network
            fit = partial(static_regression, model, classes=classes)
        splits = self.school.splits
        return Texts(
            contender=one, splits=splits, made_by=made_by, teachers=self.school.teachers, fit=fit
        )

    def _made_by(self) -> dict[str, Any]:
        """What every trial is made with, beside its own settings."""
        from distill.identity import WAYS, named_by_content

        settings, opened = self.settings, self.opened
        plain = settings.model_dump(mode="json", exclude=NOT_COMPARED)
        asked = {one.method or one.name for one in self.asked}
        ways: dict[str, Any] = {}  # what is of one of them alone
        if "online" in asked:
            ways["online"] = {"views": opened.config.views.model_dump(mode="json")}
        weights = named_by_content(settings.weights)
        if "pretrained" in asked:
            ways["pretrained"] = {"weights": weights}
            weights = "random"  # of all others
        made = {f"student.{name}": value for name, value in plain.items()}
        return made | {
            "student.weights": weights,
            WAYS: ways,
            "dataset": opened.dataset.fingerprint,
            "teacher": self.lesson.teacher,
            "target": self.lesson.target,
            "rows": self.lesson.targets["train"].digest,
        }
