"""Losses of a batch: what a network gives, beside what its rows should be.

Terms are pure functions of tensors, the mean over rows of one number a row; the distances of rows
from their targets stand in ``students.distances``. A loss is a frozen sum of terms.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from students.distances import fisher, get_distance
from students.errors import StudentError

UNLABELLED = -1  # the label of a row that has none
FISHER = "fisher"  # the distance that needs a metric
_SQUARED = ("mse", FISHER)  # distances that are divided by scale²

Outputs = Tensor | Mapping[str, Tensor]


def kl(
    logits: Float[Tensor, "rows classes"],
    teacher: Float[Tensor, "rows classes"],
    temperature: float,
) -> Float[Tensor, ""]:
    """T² KL(softmax(teacher / T) ‖ softmax(logits / T)), averaged over rows.

    T² keeps the gradient's size independent of T (Hinton et al., arXiv 1503.02531).
    """
    found = functional.log_softmax(logits / temperature, dim=1)
    aim = functional.log_softmax(teacher / temperature, dim=1)
    divergence = functional.kl_div(found, aim, reduction="batchmean", log_target=True)
    return temperature**2 * divergence


def cross_entropy(
    logits: Float[Tensor, "rows classes"], labels: Int64[Tensor, " rows"]
) -> Float[Tensor, ""]:
    """-log softmax(logits)[label], averaged over the rows that have a label; 0 if none has."""
    total = functional.cross_entropy(logits, labels, ignore_index=UNLABELLED, reduction="sum")
    return total / (labels != UNLABELLED).sum().clamp_min(1)


@dataclass(frozen=True, kw_only=True)
class LabelLoss:
    """Cross-entropy of the network's logits: learning from labels only."""

    def __call__(self, logits: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """``targets`` holds ``labels`` (rows,)."""
        return cross_entropy(logits, targets["labels"])


@dataclass(frozen=True, kw_only=True)
class LogitLoss:
    """Hinton's distillation: T² KL to the teacher's logits + cross-entropy."""

    temperature: float
    kl_weight: float = 1.0
    ce_weight: float = 1.0

    def __call__(self, logits: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """``targets`` holds ``logits`` (rows, classes) of the teacher, and ``labels``."""
        soft = self.kl_weight * kl(logits, targets["logits"], self.temperature)
        return soft + self.ce_weight * cross_entropy(logits, targets["labels"])


@dataclass(frozen=True, kw_only=True)
class Prefix:
    """The carried-over head of a student's first numbers: of as many as ``weight`` reads."""

    weight: Tensor  # (classes, width)
    bias: Tensor  # (classes,)

    @property
    def width(self) -> int:
        """How many of the student's numbers it reads."""
        return int(self.weight.shape[1])


@dataclass(frozen=True, kw_only=True)
class SubspaceLoss:
    """a · distance(g / scale, z / scale) + b · T² KL + c · CE.

    The distance is that of rows and targets both divided by the one number ``scale``, so that
    a weight means the same whatever the size of the teacher's features: a squared distance is
    divided by scale², the gradients of the others do not change with it. Terms of weight 0 are not
    computed.

    Logits are those the network gives, where it gives any (a head that learns is its part), and
    else those of the frozen head: W g + bias.

    ``prefixes`` ask the same of the student's first numbers alone, each through a head of its own
    (Matryoshka: Kusupati et al., arXiv 2205.13147); the loss is the mean over all widths. Their
    metric is the leading block of ``metric``, scaled to a mean diagonal of 1.
    """

    distance: str
    scale: float
    weight: Tensor | None = None  # (classes, k), the carried-over head
    bias: Tensor | None = None  # (classes,)
    target_weight: float = 1.0
    kl_weight: float = 0.0
    ce_weight: float = 0.0
    temperature: float = 1.0
    metric: Tensor | None = None  # (k, k), of the distance "fisher" and of no other
    prefixes: tuple[Prefix, ...] = ()

    def __post_init__(self) -> None:
        if self.distance != FISHER:
            get_distance(self.distance)
        if (self.distance == FISHER) is (self.metric is None):
            raise StudentError(
                f"the loss {self.distance!r} "
                + ("needs a metric" if self.metric is None else "has no use for a metric")
            )

    def __call__(self, outputs: Outputs, targets: Mapping[str, Tensor]) -> Tensor:
        """Loss of what the network gives: rows (rows, k), or ``rows`` and perhaps ``logits``.

        ``targets`` holds ``targets`` (rows, k), and ``logits``, ``labels`` where weighed. Rows of
        another width than their targets raise ``StudentError``.
        """
        if isinstance(outputs, Tensor):
            rows, logits = outputs, None
        else:
            rows, logits = outputs["rows"], outputs.get("logits")
        found = self._terms(rows, logits, targets)
        for width, loss in self._narrow:
            aims = {**targets, "targets": targets["targets"][:, :width]}
            found = found + loss._terms(rows[:, :width], None, aims)
        return found / (1 + len(self._narrow)) if self._narrow else found

    def _terms(self, rows: Tensor, logits: Tensor | None, targets: Mapping[str, Tensor]) -> Tensor:
        terms: list[Tensor] = []
        if self.target_weight:
            size = self.scale**2 if self.distance in _SQUARED else 1.0
            distance = self._distance(rows, targets["targets"])
            terms.append(_weighed(self.target_weight / size, distance))
        if self.kl_weight or self.ce_weight:
            if logits is None:
                logits = self._carried(rows)
            if self.kl_weight:
                divergence = kl(logits, targets["logits"], self.temperature)
                terms.append(_weighed(self.kl_weight, divergence))
            if self.ce_weight:
                terms.append(_weighed(self.ce_weight, cross_entropy(logits, targets["labels"])))
        return reduce(torch.add, terms) if terms else rows.new_zeros(())

    def _distance(self, rows: Tensor, aims: Tensor) -> Tensor:
        if rows.shape != aims.shape:
            raise StudentError(
                f"the student gives rows of width {rows.shape[-1]}, and its targets have "
                f"{aims.shape[-1]}; build it of their width"
            )
        if self.metric is not None:
            return fisher(rows, aims, self.metric)
        return get_distance(self.distance)(rows, aims)

    def _carried(self, rows: Tensor) -> Tensor:
        if self.weight is None:
            raise StudentError("the loss has no head, and the network gives no logits")
        return functional.linear(rows, self.weight, self.bias)

    @cached_property
    def _narrow(self) -> tuple[tuple[int, "SubspaceLoss"], ...]:
        """The same loss for each prefix."""
        return tuple(
            (
                prefix.width,
                replace(
                    self,
                    weight=prefix.weight,
                    bias=prefix.bias,
                    metric=None if self.metric is None else _block(self.metric, prefix.width),
                    prefixes=(),
                ),
            )
            for prefix in self.prefixes
        )


def check_prefixes(widths: Sequence[int], dim_out: int) -> None:
    """Raise ``StudentError`` for a prefix that is not narrower than its student, or named twice."""
    for width in widths:
        if not 1 <= width < dim_out:
            raise StudentError(
                f"a prefix of {width} numbers is no part of a student's {dim_out}; "
                f"name widths from 1 to {dim_out - 1}"
            )
        if list(widths).count(width) > 1:
            raise StudentError(f"the prefix of {width} numbers is named twice; name it once")


def _block(metric: Tensor, width: int) -> Tensor:
    """Leading block of a metric, of mean diagonal 1 as the whole is."""
    block = metric[:width, :width]
    return block / block.diagonal().mean().clamp_min(torch.finfo(block.dtype).tiny)


def _weighed(weight: float, term: Tensor) -> Tensor:
    """A product with 1 and its gradient are a hundredth of a small network's step."""
    return term if weight == 1.0 else weight * term
