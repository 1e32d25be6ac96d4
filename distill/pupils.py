"""The ways to teach one network: the subspace's rows, labels only, or the teacher's logits.

All start from the same weights of the same seed and learn from the same rows in the same order;
they differ in what they are compared with. A new way is a function and a line in ``METHODS``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor, nn

from distill.config import StudentConfig
from distill.lessons import Lesson, Matched, StoreRows, logits_of, spread
from students import (
    Blueprint,
    Classifier,
    Encoder,
    LabelLoss,
    LogitLoss,
    SubspaceLoss,
    build,
    carried_head,
    fresh_head,
    in_memory,
)

Take = Callable[[np.ndarray], Tensor]
Loss = Callable[[Tensor, dict[str, Tensor]], Tensor]


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Pupil:
    """A network about to learn."""

    network: nn.Module  # what is trained
    encoder: Encoder  # the part of it that ends in the student's k numbers
    head: nn.Linear  # from those to logits
    targets: Mapping[str, Take]  # what each training row is compared with
    loss: Loss

    def logits(
        self, outputs: Float32[np.ndarray, "rows width"]
    ) -> Float32[np.ndarray, "rows classes"]:
        """Logits from what ``network`` gives: they are it already where the head is in it."""
        if self.network is not self.encoder:
            return outputs
        with torch.inference_mode():
            found: np.ndarray = self.head(torch.from_numpy(outputs)).numpy()
        return found


def _subspace(
    encoder: Encoder, lesson: Lesson, train: Matched, settings: StudentConfig, device: str
) -> Pupil:
    """Compare g(x) with z, both divided by the spread of z: one number, folded back later."""
    weight, bias = (torch.from_numpy(part) for part in (lesson.head.weight, lesson.head.bias))
    scale = spread(train.targets)
    encoder.set_scale(scale)
    targets: dict[str, Take] = {"targets": StoreRows(train.targets)}
    if settings.kl_weight:
        targets["logits"] = in_memory(logits_of(lesson.full_head, train.features))
    if settings.ce_weight:
        targets["labels"] = in_memory(train.labels)
    loss = SubspaceLoss(
        distance=settings.loss,
        scale=scale,
        weight=weight.to(device),
        bias=bias.to(device),
        target_weight=settings.target_weight,
        kl_weight=settings.kl_weight,
        ce_weight=settings.ce_weight,
        temperature=settings.temperature,
    )
    head = carried_head(weight, bias)
    return Pupil(network=encoder, encoder=encoder, head=head, targets=targets, loss=loss)


def _labels(
    encoder: Encoder, lesson: Lesson, train: Matched, settings: StudentConfig, device: str
) -> Pupil:
    """Cross-entropy through a fresh head: what the network learns without a teacher."""
    del device
    head = _new_head(encoder, lesson, settings)
    targets = {"labels": in_memory(train.labels)}
    network = Classifier(encoder, head)
    return Pupil(network=network, encoder=encoder, head=head, targets=targets, loss=LabelLoss())


def _logits(
    encoder: Encoder, lesson: Lesson, train: Matched, settings: StudentConfig, device: str
) -> Pupil:
    """Hinton's distillation from the full head's logits, T² KL + CE, through a fresh head."""
    del device
    head = _new_head(encoder, lesson, settings)
    targets = {
        "logits": in_memory(logits_of(lesson.full_head, train.features)),
        "labels": in_memory(train.labels),
    }
    loss = LogitLoss(temperature=settings.temperature)
    network = Classifier(encoder, head)
    return Pupil(network=network, encoder=encoder, head=head, targets=targets, loss=loss)


METHODS = {"subspace": _subspace, "labels": _labels, "logits": _logits}


def make_pupil(
    method: str,
    blueprint: Blueprint,
    lesson: Lesson,
    train: Matched,
    settings: StudentConfig,
    device: str,
) -> Pupil:
    """Make a pupil with the initial weights of the settings' seed."""
    encoder = build(blueprint, weights=settings.weights, seed=settings.seed)
    return METHODS[method](encoder, lesson, train, settings, device)


def _new_head(encoder: Encoder, lesson: Lesson, settings: StudentConfig) -> nn.Linear:
    return fresh_head(encoder.dim_out, len(lesson.full_head.bias), seed=settings.seed)
