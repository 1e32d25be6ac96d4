"""How a network is taught at several settings in one training: its objective, recipe and steps."""

from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from distill.config import NestConfig
from distill.progress import LiveTraining, Progress
from distill.training_rows import TrainingRows
from students import Evaluation, FitResult, Recipe, fit, shuffled_order
from students.nested import Learning, NestedObjective, NestedRecipe, RankPasses, Witness

DEAF = "it has no layers in the places of those whose outputs were learned: taught without hints"
VARIANCE_RATE = 1e-2  # of the log-variances, if they learn


def objective_of(settings: NestConfig, *, scale: float | None = None) -> NestedRecipe:
    """What each rank learns: labels, or stored rows over ``scale``, and what is distilled."""
    stored = scale is not None
    return NestedRecipe(
        weighing=settings.weighing,
        sampling=settings.sampling,
        over=settings.over,
        distill=settings.distill,
        ce_weight=0.0 if stored or settings.mix != "none" else 1.0,
        kl_weight=settings.kl_weight,
        temperature=settings.temperature,
        target_weight=1.0 if stored else 0.0,
        scale=1.0 if scale is None else scale,
        hint_weight=settings.hint_weight,
    )


def objective_for(settings: int, objective: NestedRecipe) -> NestedRecipe:
    """What a network of so many settings learns where others learn by this objective.

    One of a single setting has no anchor beside it: it learns from the dense network what variants
    learn from the anchor, and there is nothing to weigh.
    """
    if settings > 1:
        return objective
    distill = "none" if objective.distill == "none" else "dense"
    return replace(objective, distill=distill, weighing="equal")


def witness_of(
    dense: nn.Module,
    objective: NestedRecipe,
    *,
    spreads: Mapping[str, float],
    counterpart: Callable[[str], str],
    answers: bool,
    precision: str,
) -> Witness | None:
    """The dense network beside a training that asks it of each batch; None of one that does not.

    It is asked for hints, of the layers with ``spreads`` that have a ``counterpart`` in the network
    that learns ("": none), or for logits where its ``answers`` are not kept.
    """
    pairs = {name: own for name in spreads if (own := counterpart(name))}
    if not (objective.hint_weight or (answers and objective.needs_dense)):
        return None
    return Witness(dense=dense, precision=precision, spreads=spreads, counterparts=pairs)


def recipe_of(settings: NestConfig) -> Recipe:
    """How it learns."""
    names = Recipe.__dataclass_fields__.keys() & NestConfig.model_fields.keys()
    return Recipe(**{name: getattr(settings, name) for name in names})


def learning_of(
    network: nn.Module, objective: NestedRecipe, *, settings: int, rows: int, recipe: Recipe
) -> Learning:
    """The network beside its objective of so many settings, for the steps of a training.

    What the objective learns of the settings has a rate of its own, where the network's is lower.
    """
    order = shuffled_order(rows, recipe.batch_size, seed=recipe.seed, epoch=1)
    told = NestedObjective(
        objective,
        count=settings,
        steps=recipe.epochs * len(order),
        seed=recipe.seed,
        pace=max(1.0, VARIANCE_RATE / recipe.learning_rate),
    )
    return Learning(network, told)


def teach_settings(
    network: nn.Module,
    lessons: Sequence[Any],
    *,
    choose: Callable[[nn.Module, Any], None],
    objective: NestedRecipe,
    train: TrainingRows,
    evaluate: Callable[[nn.Module], Evaluation],
    recipe: Recipe,
    folder: Path,
    made_by: dict[str, Any],
    device: str,
    progress: Progress,
    witness: Witness | None = None,
    unit: str = "rows",
) -> FitResult:
    """Train the network at these settings in ``folder``, or go on there, and say where it stands.

    ``train`` has the targets that the objective asks for, but for what ``witness`` says of each
    batch; ``choose`` sets a lesson. A network without counterparts of the dense one's layers learns
    the rest. Errors as ``students.fit``.
    """
    deaf = objective.hint_weight > 0 and (witness is None or not witness.counterparts)
    if deaf:
        objective = replace(objective, hint_weight=0.0)
    learning = learning_of(
        network, objective, settings=len(lessons), rows=train.examples, recipe=recipe
    )
    with progress.task(folder.name, total=train.examples * recipe.epochs, unit=unit) as bar:
        live = LiveTraining(progress, bar)
        found = fit(
            learning,
            feed=train.feed,
            loss=RankPasses(learning, lessons, choose=choose, witness=witness),
            evaluate=evaluate,
            recipe=recipe,
            folder=folder,
            settings=made_by,
            device=device,
            order=train.order,
            on_rows=bar,
            on_loss=live.loss,
            on_epoch=live.epoch,
            on_note=progress.say,
        )
    return replace(found, notes=(*found.notes, DEAF)) if deaf else found


def hint_notes(weight: float, layers: Sized) -> tuple[str, ...]:
    """What a finding says of hints, if there are any."""
    if not layers:
        return ()
    said = "layers learned what the dense network's give on the way, by a weight of"
    return (f"{len(layers)} {said} {weight:g}",)
