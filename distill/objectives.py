"""Subspace-native distillation: a student that answers with the k numbers of a stored map.

The student g minimises a distance between g(x) and the stored z = R h(x) (arXiv 2512.23410,
equation 4); its logits are those of a head that was trained on z, carried over as it is, tuned
with the student, or made afresh. What the teacher's classes are is read off z by the same head, so
that nothing but the k numbers of a row has to be stored.
"""

from dataclasses import dataclass
from functools import partial
from typing import final

import numpy as np
import scipy.linalg
import torch
from jaxtyping import Float32
from torch import Tensor, nn

from distill.config import StudentConfig
from distill.desk import Desk, Pupil, Take
from distill.errors import StageError
from distill.stored import blocks, spread, spread_of
from students import (
    COORDINATES,
    Classifier,
    Coordinates,
    Encoder,
    FittedHead,
    Prefix,
    SubspaceLoss,
    averaged_over_views,
    carried_head,
    check_prefixes,
    class_means,
    fisher_metric,
    fit_head,
    in_memory,
    label_shrunk,
    mean_and_covariance,
)

OBJECTIVE = (  # the settings that say what is minimised
    "loss", "targets", "target_weight", "kl_weight", "ce_weight", "temperature", "fisher_ridge",
    "prefixes", "shrink", "average_views", "projector", "head", "calibrate",
)  # fmt: skip


def subspace(desk: Desk) -> Pupil:
    """Compare g(x) with z, both divided by the spread of z: one number, folded back later."""
    settings, lesson, train = desk.settings, desk.lesson, desk.train
    _refuse_untaught_head(desk)
    refuse_decoupled(settings)
    check_prefixes(settings.prefixes, desk.blueprint.dim_out)
    aims = _aims(desk)
    encoder = desk.encoder()
    if aims.coordinates is not None and not isinstance(encoder.neck, nn.Linear):
        raise StageError(
            f"{settings.name} ends in no linear layer of ours that could hold the units of "
            f"{settings.targets} targets; use --targets raw"
        )
    encoder.set_scale(aims.scale)
    prefixes = {width: _prefix_head(desk, width) for width in settings.prefixes}
    weight, bias = aims.reading(lesson.head)
    targets: dict[str, Take] = {"targets": aims.take}
    if settings.kl_weight:
        targets["logits"] = train.take_projected_logits(lesson.head)
    if settings.ce_weight and train.labelled:  # which refuses rows without any label
        targets["labels"] = train.take_labels()
    carried = settings.head == "carried"
    loss = SubspaceLoss(
        distance=settings.loss,
        scale=aims.scale,
        weight=weight.to(desk.device) if carried else None,
        bias=bias.to(desk.device) if carried else None,
        target_weight=settings.target_weight,
        kl_weight=settings.kl_weight,
        ce_weight=settings.ce_weight,
        temperature=settings.temperature,
        metric=_metric(desk, aims) if settings.loss == "fisher" else None,
        prefixes=tuple(_prefix(desk, aims, prefixes[width]) for width in settings.prefixes),
    )
    head = carried_head(weight, bias)
    network: nn.Module = encoder
    if not carried:
        head = _learning_head(desk, aims, head)
        network = WithHead(encoder, head, _projector(desk))
    student = Classifier(encoder, head)
    return Pupil(
        network=network,
        student=student,
        targets=targets,
        loss=loss,
        fold=partial(aims.fold, student, encoder),
        prefixes=prefixes,
    )


class WithHead(nn.Module):
    """While it learns: the rows that are compared with the targets, and the logits beside them."""

    def __init__(self, encoder: Encoder, head: nn.Linear, projector: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.projector = projector

    def forward(self, prepared: dict[str, Tensor]) -> dict[str, Tensor]:
        """``rows`` (rows, k) and ``logits`` (rows, classes)."""
        rows, scale = self.encoder(prepared), self.encoder.scale
        compared = scale * self.projector(rows / scale)
        return {"rows": compared, "logits": self.head(rows)}


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class _Aims:
    """What the student is to answer while it learns: targets, perhaps in other coordinates."""

    take: Take
    scale: float
    coordinates: Coordinates | None
    rows: Float32[np.ndarray, "rows k"] | None  # where the targets are not as they are stored

    def reading(self, head: FittedHead) -> tuple[Tensor, Tensor]:
        """Weight and bias that read the student as it learns."""
        weight, bias = head.weight, head.bias
        if self.coordinates is not None:
            narrow = self.coordinates.prefix(weight.shape[1])
            weight, bias = narrow.fold_head(weight, bias)
        return torch.from_numpy(weight), torch.from_numpy(bias)

    @torch.no_grad()
    def fold(self, student: Classifier, encoder: Encoder) -> None:
        """After training: the student answers in the targets' own units, its head reads these."""
        if self.coordinates is None:
            encoder.fold_scale()
            return
        self.coordinates.fold_back(encoder)
        head, factor = student.head, self.coordinates.factor
        weight = head.weight.detach().cpu().numpy().astype(np.float64)
        weight = scipy.linalg.solve_triangular(factor, weight.T, lower=True, trans="T").T
        bias = head.bias.detach().cpu().numpy() - weight @ self.coordinates.mean
        head.weight.copy_(torch.from_numpy(weight))
        head.bias.copy_(torch.from_numpy(bias))


def _aims(desk: Desk) -> _Aims:
    """Targets as they are stored, or treated: averaged, drawn to their class, in other units."""
    settings, train = desk.settings, desk.train
    other_units = settings.targets != "raw"
    if not (settings.average_views or settings.shrink or other_units):
        scale = spread(*train.target_stores)
        return _Aims(take=train.take_targets(), scale=scale, coordinates=None, rows=None)
    rows = _averaged(desk) if settings.average_views else np.concatenate(_all_rows(desk))
    if settings.shrink:
        means = class_means([(rows, train.labels)], classes=desk.classes)
        rows = label_shrunk(rows, train.labels, means, alpha=settings.shrink)
    coordinates = COORDINATES[settings.targets]([rows]) if other_units else None
    if coordinates is not None:
        rows = coordinates.apply(rows)
    return _Aims(take=in_memory(rows), scale=spread_of([rows]), coordinates=coordinates, rows=rows)


def _all_rows(desk: Desk) -> list[Float32[np.ndarray, "rows k"]]:
    """The rows of each part of the material."""
    return [np.concatenate(list(blocks(store))) for store in desk.train.target_stores]


def _averaged(desk: Desk) -> Float32[np.ndarray, "rows k"]:
    """Each row the mean of its example's views."""
    found = []
    for part, rows in zip(desk.train.parts, _all_rows(desk), strict=True):
        found.append(np.repeat(averaged_over_views(rows, part.views), part.views, axis=0))
    return np.concatenate(found)


def _metric(desk: Desk, aims: _Aims) -> Tensor:
    """The metric of the distance ``fisher``, in the units the student answers in."""
    train, lesson = desk.train, desk.lesson
    stores = train.target_stores
    rows = [aims.rows] if aims.rows is not None else (b for s in stores for b in blocks(s))
    _, covariance = mean_and_covariance(rows)
    weight, _ = aims.reading(lesson.head)
    found = fisher_metric(
        weight.numpy(),
        (lesson.head.logits(block) for store in stores for block in blocks(store)),
        covariance=covariance,
        ridge=desk.settings.fisher_ridge,
    )
    return torch.from_numpy(found.astype(np.float32)).to(desk.device)


def _prefix_head(desk: Desk, width: int) -> FittedHead:
    """The head on the first ``width`` numbers of the projected rows, as strong as the whole one."""
    lesson = desk.lesson
    train, validation = lesson.targets["train"], lesson.targets["validation"]
    return fit_head(
        np.concatenate(list(blocks(train)))[:, :width],
        train.labels(),
        np.concatenate(list(blocks(validation)))[:, :width],
        validation.labels(),
        classes=desk.classes,
        l2=(lesson.head.l2,),
        max_iterations=500,
    )


def _prefix(desk: Desk, aims: _Aims, head: FittedHead) -> Prefix:
    weight, bias = aims.reading(head)
    return Prefix(weight=weight.to(desk.device), bias=bias.to(desk.device))


def _learning_head(desk: Desk, aims: _Aims, carried: nn.Linear) -> nn.Linear:
    """The head that learns with the student: from the carried-over one, or from nothing."""
    if desk.settings.head == "tuned":
        return carried.requires_grad_(True)
    head = desk.head(carried.in_features)
    with torch.no_grad():
        head.weight.div_(aims.scale)  # it reads numbers of that size
    return head


def _projector(desk: Desk) -> nn.Module:
    """What stands between the student and its targets while it learns; nothing, or an MLP."""
    hidden, k = desk.settings.projector, desk.blueprint.dim_out
    if not hidden:
        return nn.Identity()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(desk.settings.seed)
        return nn.Sequential(nn.Linear(k, hidden), nn.GELU(), nn.Linear(hidden, k))


def refuse_decoupled(settings: StudentConfig) -> None:
    """``StageError`` for a setting of a sketch, which would be without effect here."""
    if settings.decouple:
        raise StageError(
            "what a student says in the k numbers is compared by the whole KL and knows no "
            "decouple: set --decouple 0, or train with --way sketch"
        )


def _refuse_untaught_head(desk: Desk) -> None:
    """A head that nothing teaches would stay as it began."""
    settings = desk.settings
    if settings.head != "carried" and not (settings.kl_weight or settings.ce_weight):
        raise StageError(
            f"a {settings.head} head learns from labels or logits: set --kl-weight or --ce-weight "
            "above 0, or leave the head as it is with --head carried"
        )
    if settings.projector and settings.head != "fresh":
        raise StageError(
            "behind a projector the student no longer answers in the teacher's space, which a "
            f"{settings.head} head reads; use --head fresh with it"
        )
    if settings.prefixes and settings.head == "fresh":
        raise StageError(
            "prefixes are read by heads of the teacher's space; use --head carried or tuned"
        )
