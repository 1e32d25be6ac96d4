"""Other ways to teach the same network: rivals, each as its authors say it, and the sketch.

All begin with the same body of the same seed and see the same inputs in the same order. Those
without a space of k numbers put a fresh head on the body's own numbers. What helps only while
learning is thrown away, but for SimKD's projector, which is part of the student that is shipped.
Which of the student's settings a way reads stands beside it in ``RIVALS``.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor, nn

from distill.config import StudentConfig
from distill.desk import Desk, Method, Pupil, Take
from distill.errors import StageError
from distill.lessons import Matched, Material
from distill.objectives import OBJECTIVE, subspace
from distill.pupils import classifier, labels
from distill.runs import VIEWS
from distill.stored import blocks, spread, spread_of
from distill.views import Viewed, Views
from students import (
    Classifier,
    DecoupledLoss,
    Encoder,
    LogitLoss,
    LogitSquareLoss,
    Matching,
    MatchingLoss,
    OrthogonalProjector,
    StandardisedLoss,
    SubspaceLoss,
    carried_head,
    in_memory,
    linear_projector,
    random_projector,
    simkd_projector,
)

TEACHERS_MAP = 0  # seed of the map that RdimKD puts behind the teacher

Projector = Callable[[int, int], nn.Module]  # widths of the body and of the targets


def weighed_logits(desk: Desk) -> Pupil:
    """Hinton's distillation as the baseline has it, its two terms weighed."""
    settings, student = desk.settings, classifier(desk)
    loss = LogitLoss(
        temperature=settings.temperature,
        kl_weight=settings.kl_weight,
        ce_weight=settings.ce_weight,
    )
    targets = _logit_targets(desk, top=settings.top_logits)
    return Pupil(network=student, student=student, targets=targets, loss=loss)


def logit_squares(desk: Desk) -> Pupil:
    """Ba & Caruana: the full head's logits by least squares, a target space of C numbers."""
    student = classifier(desk)
    targets = {"logits": desk.train.take_logits(desk.lesson.full_head)}
    every = targets["logits"](np.arange(desk.train.rows))
    centred = (every - every.mean(dim=1, keepdim=True)).numpy()
    loss = LogitSquareLoss(scale=spread_of([centred]))
    return Pupil(network=student, student=student, targets=targets, loss=loss)


def decoupled(desk: Desk) -> Pupil:
    """DKD: alpha is ``target_weight``, beta is ``kl_weight``."""
    settings, student = desk.settings, classifier(desk)
    loss = DecoupledLoss(
        alpha=settings.target_weight,
        beta=settings.kl_weight,
        temperature=settings.temperature,
        ce_weight=settings.ce_weight,
    )
    return Pupil(network=student, student=student, targets=_logit_targets(desk), loss=loss)


def full_features(desk: Desk) -> Pupil:
    """FitNet: all the teacher's features behind a learned linear map, labels beside them."""
    train, seed = desk.train, desk.settings.seed
    return _matched(
        desk,
        lambda dim_in, dim_out: linear_projector(dim_in, dim_out, seed=seed),
        train.take_features(),
        train.feature_stores[0].spec.dim,
        _matching_loss(desk, spread(*train.feature_stores)),
    )


def orthogonal_features(desk: Desk) -> Pupil:
    """VkD: the teacher's features, each row standardised, behind an orthogonal map."""
    train, settings = desk.train, desk.settings
    return _matched(
        desk,
        lambda dim_in, dim_out: OrthogonalProjector(dim_in, dim_out, seed=settings.seed),
        train.take_features(),
        train.feature_stores[0].spec.dim,
        StandardisedLoss(target_weight=settings.target_weight, ce_weight=settings.ce_weight),
    )


def random_features(desk: Desk) -> Pupil:
    """RdimKD: the teacher's features and the body's own numbers, each behind a random map to k.

    The teacher's map is the same for all seeds, as it would be if its rows were stored.
    """
    stores, seed, k = desk.train.feature_stores, desk.settings.seed, desk.blueprint.dim_out
    reduce = random_projector(stores[0].spec.dim, k, seed=TEACHERS_MAP).weight.numpy().T
    rows = [block @ reduce for store in stores for block in blocks(store)]
    return _matched(
        desk,
        lambda dim_in, dim_out: random_projector(dim_in, dim_out, seed=seed),
        in_memory(np.concatenate(rows)),
        k,
        _matching_loss(desk, spread_of(rows)),
    )


def sketched(desk: Desk) -> Pupil:
    """The projected rows as a sketch of the features: compared beside the student, not through it.

    The student keeps its own numbers and a head of its own, and a learned linear map of them to the
    k targets is thrown away. What the teacher says of the classes is read off the same k numbers by
    their own head: so a view costs k stored numbers, and teaches what logits and features teach.
    """
    train, settings, lesson = desk.train, desk.settings, desk.lesson
    refuse_what_needs_the_space(settings)
    loss = MatchingLoss(
        scale=spread(*train.target_stores),
        target_weight=settings.target_weight,
        ce_weight=settings.ce_weight,
        kl_weight=settings.kl_weight,
        temperature=settings.temperature,
        decouple=settings.decouple,
    )
    pupil = _matched(
        desk,
        lambda dim_in, dim_out: linear_projector(dim_in, dim_out, seed=settings.seed),
        train.take_targets(),
        train.target_stores[0].spec.dim,
        loss,
    )
    if not settings.kl_weight:
        return pupil
    soft = train.take_projected_logits(lesson.head)
    return replace(pupil, targets={**pupil.targets, "logits": soft})


def refuse_what_needs_the_space(settings: StudentConfig) -> None:
    """``StageError`` for settings that have an effect on students that answer in the k numbers."""
    plain = StudentConfig()
    for name in ("loss", "targets", "prefixes", "shrink", "average_views", "projector"):
        if getattr(settings, name) != getattr(plain, name):
            raise StageError(
                f"a sketch is compared by plain squares and knows no {name}; leave it out, or "
                "train with --way subspace"
            )
    if not (settings.kl_weight or settings.ce_weight):
        raise StageError(
            "the head of a student beside a sketch learns from labels or logits: set --kl-weight "
            "or --ce-weight above 0"
        )
    if settings.decouple and not settings.kl_weight:
        raise StageError(
            "decouple weighs a part of the KL, and there is none: set --kl-weight above 0, or "
            "--decouple 0"
        )


def reused_head(desk: Desk) -> Pupil:
    """SimKD: the teacher's features behind a projector that stays, under its frozen full head."""
    train, full = desk.train, desk.lesson.full_head
    body, dim = desk.encoder(0), train.feature_stores[0].spec.dim
    projector = simkd_projector(body.dim_out, dim, seed=desk.settings.seed)
    encoder = Encoder(body.body, projector, dim_out=dim)
    scale = spread(*train.feature_stores)
    encoder.set_scale(scale)
    head = carried_head(torch.from_numpy(full.weight), torch.from_numpy(full.bias))
    return Pupil(
        network=encoder,
        student=Classifier(encoder, head),
        targets={"targets": train.take_features()},
        loss=SubspaceLoss(distance="mse", scale=scale),
    )


def _matched(
    desk: Desk, make: Projector, aims: Take, width: int, loss: MatchingLoss | StandardisedLoss
) -> Pupil:
    """A classifier that learns with a projector of its features to ``width`` numbers."""
    student = classifier(desk)
    body = student.head.in_features
    return Pupil(
        network=Matching(student.encoder, student.head, make(body, width)),
        student=student,
        targets={"targets": aims, "labels": desk.train.take_labels()},
        loss=loss,
    )


def _matching_loss(desk: Desk, scale: float) -> MatchingLoss:
    settings = desk.settings
    return MatchingLoss(
        scale=scale, target_weight=settings.target_weight, ce_weight=settings.ce_weight
    )


def _logit_targets(desk: Desk, *, top: int = 0) -> dict[str, Take]:
    return {
        "logits": desk.train.take_logits(desk.lesson.full_head, top=top),
        "labels": desk.train.take_labels(),
    }


# --- the teacher at hand --------------------------------------------------------------------------


@final
class Answers:
    """What the teacher says of rows that are made for it: the last batch is kept."""

    def __init__(
        self,
        inputs: Sequence[Any],
        embed: Callable[[Sequence[Any]], Float32[np.ndarray, "rows dim"]],
    ) -> None:
        self._inputs = inputs
        self._embed = embed
        self._last: tuple[bytes, Float32[np.ndarray, "rows dim"]] | None = None

    def __call__(self, rows: Int64[np.ndarray, " rows"]) -> Float32[np.ndarray, "rows dim"]:
        """Full-width features of these rows, in their order."""
        key = rows.tobytes()
        if self._last is None or self._last[0] != key:
            self._last = key, self._embed([self._inputs[int(row)] for row in rows])
        return self._last[1]


def online(
    clean: Matched,
    modality: str,
    views: Views,
    *,
    embed: Callable[[Sequence[Any]], Float32[np.ndarray, "rows dim"]],
    project: Callable[[Float32[np.ndarray, "rows dim"]], Float32[np.ndarray, "rows k"]],
) -> Method:
    """The subspace's objective with the teacher beside the student: a new view every epoch.

    ``clean`` is the train split; ``views`` says how views are drawn, and each student's seed adds
    to theirs: as many of each example as there are epochs. Targets are made from each batch as
    it comes, so those that need all rows beforehand (averaged, shrunk, in other units) do not
    apply.
    """

    def make(desk: Desk) -> Pupil:
        settings = desk.settings
        fresh = replace(views, count=settings.epochs, seed=views.seed + 1 + settings.seed)
        inputs = Viewed(clean.inputs, clean.ids, fresh, modality)
        answers = Answers(inputs, embed)
        pupil = subspace(replace(desk, train=Material((clean,))))
        takes: dict[str, Take] = {
            "targets": lambda rows: _float(project(answers(rows))),
            "logits": lambda rows: _float(desk.lesson.head.logits(project(answers(rows)))),
            "labels": in_memory(np.repeat(clean.labels, fresh.count)),
        }
        return replace(
            pupil,
            targets={name: takes[name] for name in pupil.targets},
            material=_endless(clean, inputs, fresh.count),
        )

    return Method(make=make, settings=OBJECTIVE, targets=True, in_space=True)


def _endless(clean: Matched, inputs: Sequence[Any], count: int) -> Material:
    """A view for every epoch; the clean rows' stores stand for how much is held in memory."""
    part = replace(
        clean,
        name=VIEWS,
        ids=np.repeat(clean.ids, count),
        labels=np.repeat(clean.labels, count),
        inputs=inputs,
        views=count,
        used=count,
    )
    return Material((part,))


def _float(rows: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(rows, dtype=np.float32))


MATCHING = ("target_weight", "ce_weight")  # settings that weigh terms
SOFT = ("kl_weight", "ce_weight", "temperature")
HINTON = (*SOFT, "top_logits")

RIVALS = {
    "sketch": Method(make=sketched, settings=("target_weight", "decouple", *SOFT), targets=True),
    "logits": Method(make=weighed_logits, settings=HINTON, features=True),
    "logit-mse": Method(make=logit_squares, features=True),
    "dkd": Method(make=decoupled, settings=("target_weight", *SOFT), features=True),
    "features": Method(make=full_features, settings=MATCHING, features=True),
    "vkd": Method(make=orthogonal_features, settings=MATCHING, features=True),
    "simkd": Method(make=reused_head, features=True),
    "rdimkd": Method(make=random_features, settings=MATCHING, targets=True, features=True),
    "pretrained": Method(make=labels),
}
