"""Subspace-native distillation: a student that answers with the k numbers of a stored map.

The student g minimises a distance between g(x) and the stored z = R h(x) (arXiv 2512.23410,
equation 4); its logits are those of a head that was trained on z, carried over as it is, tuned
with the student, or made afresh.
"""

import torch
from torch import Tensor, nn

from distill.desk import Desk, Pupil, Take
from distill.errors import StageError
from distill.stored import spread
from students import Classifier, Encoder, SubspaceLoss, carried_head

OBJECTIVE = (  # the settings that say what is minimised
    "loss", "targets", "target_weight", "kl_weight", "ce_weight", "temperature", "prefixes",
    "shrink", "average_views", "projector", "head", "calibrate",
)  # fmt: skip


class WithHead(nn.Module):
    """While it learns: the rows that are compared with the targets, and the logits beside them."""

    def __init__(self, encoder: Encoder, head: nn.Linear, projector: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.projector = projector

    def forward(self, prepared: dict[str, Tensor]) -> dict[str, Tensor]:
        """``rows`` (rows, k) and ``logits`` (rows, classes)."""
        rows = self.encoder(prepared)
        return {"rows": self.projector(rows), "logits": self.head(rows)}


def subspace(desk: Desk) -> Pupil:
    """Compare g(x) with z, both divided by the spread of z: one number, folded back later."""
    settings, lesson, train = desk.settings, desk.lesson, desk.train
    _refuse_untaught_head(desk)
    encoder = desk.encoder()
    scale = spread(*train.target_stores)
    encoder.set_scale(scale)
    weight, bias = (torch.from_numpy(part) for part in (lesson.head.weight, lesson.head.bias))
    targets: dict[str, Take] = {"targets": train.take_targets()}
    if settings.kl_weight:
        targets["logits"] = train.take_logits(lesson.full_head)
    if settings.ce_weight:
        targets["labels"] = train.take_labels()
    loss = SubspaceLoss(
        distance=settings.loss,
        scale=scale,
        weight=weight.to(desk.device),
        bias=bias.to(desk.device),
        target_weight=settings.target_weight,
        kl_weight=settings.kl_weight,
        ce_weight=settings.ce_weight,
        temperature=settings.temperature,
    )
    head = carried_head(weight, bias)
    return Pupil(
        network=encoder,
        student=Classifier(encoder, head),
        targets=targets,
        loss=loss,
        fold=encoder.fold_scale,
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
