"""Losses: pure functions of tensors, each the mean over rows of one number a row.

``DISTANCES`` holds what a student may minimise between its rows g(x) and the stored targets z.
The paper's equation 4 is ‖g(x) - z‖²; the mean over the k coordinates taken here divides it by
the constant k, so that a learning rate means the same at every k.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from students.errors import UnknownLossError, nearest

_LIGHTEST = 0.01  # of the mean squared length: no row weighs more than 100 average ones


def mse(found: Float[Tensor, "rows k"], target: Float[Tensor, "rows k"]) -> Float[Tensor, ""]:
    """‖g - z‖² / k, averaged over rows (arXiv 2512.23410, equation 4, over k)."""
    return functional.mse_loss(found, target)


def normalised_mse(
    found: Float[Tensor, "rows k"], target: Float[Tensor, "rows k"]
) -> Float[Tensor, ""]:
    """‖g - z‖² / ‖z‖², averaged over rows: every row counts alike, however long its target.

    A target shorter than a tenth of the batch's root mean square length is divided by that
    tenth instead, so that a row of zeros cannot drown the others. (‖g/‖g‖ - z/‖z‖‖², also
    known by this name, is twice ``cosine``.)
    """
    squared = target.square().sum(dim=1)
    floor = (_LIGHTEST * squared.mean()).clamp_min(torch.finfo(squared.dtype).tiny)
    return ((found - target).square().sum(dim=1) / torch.maximum(squared, floor)).mean()


def cosine(found: Float[Tensor, "rows k"], target: Float[Tensor, "rows k"]) -> Float[Tensor, ""]:
    """1 - cos(g, z), averaged over rows; in [0, 2], blind to length."""
    return (1 - functional.cosine_similarity(found, target, dim=1)).mean()


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
    """-log softmax(logits)[label], averaged over rows."""
    return functional.cross_entropy(logits, labels)


Distance = Callable[[Tensor, Tensor], Tensor]

DISTANCES: dict[str, Distance] = {
    "mse": mse,
    "normalised-mse": normalised_mse,
    "cosine": cosine,
}


def get_distance(name: str) -> Distance:
    """Look a loss up by name; ``UnknownLossError`` says which name is near."""
    try:
        return DISTANCES[name]
    except KeyError:
        raise UnknownLossError(f"no loss named {name!r}{nearest(name, DISTANCES)}") from None


@dataclass(frozen=True, kw_only=True)
class LabelLoss:
    """Cross-entropy of the network's logits: learning from labels only."""

    def __call__(self, logits: Tensor, targets: dict[str, Tensor]) -> Tensor:
        """``targets`` holds ``labels`` (rows,)."""
        return cross_entropy(logits, targets["labels"])


@dataclass(frozen=True, kw_only=True)
class LogitLoss:
    """Hinton's distillation: T² KL to the teacher's logits + cross-entropy."""

    temperature: float
    kl_weight: float = 1.0
    ce_weight: float = 1.0

    def __call__(self, logits: Tensor, targets: dict[str, Tensor]) -> Tensor:
        """``targets`` holds ``logits`` (rows, classes) of the teacher, and ``labels``."""
        soft = self.kl_weight * kl(logits, targets["logits"], self.temperature)
        return soft + self.ce_weight * cross_entropy(logits, targets["labels"])


@dataclass(frozen=True, kw_only=True)
class SubspaceLoss:
    """a · distance(g / scale, z / scale) + b · T² KL + c · CE, logits by a frozen head: W g + bias.

    The distance is that of rows and targets both divided by the one number ``scale``, so that
    a weight means the same whatever the size of the teacher's features: a squared distance is
    divided by scale², the others do not change with it. Terms of weight 0 are not computed.
    """

    distance: str
    scale: float
    weight: Tensor  # (classes, k), the carried-over head
    bias: Tensor  # (classes,)
    target_weight: float = 1.0
    kl_weight: float = 0.0
    ce_weight: float = 0.0
    temperature: float = 1.0

    def __call__(self, rows: Tensor, targets: dict[str, Tensor]) -> Tensor:
        """``targets`` holds ``targets`` (rows, k), and ``logits``, ``labels`` where weighed."""
        terms: list[Tensor] = []
        if self.target_weight:
            size = self.scale**2 if get_distance(self.distance) is mse else 1.0
            distance = get_distance(self.distance)(rows, targets["targets"])
            terms.append(_weighed(self.target_weight / size, distance))
        if self.kl_weight or self.ce_weight:
            logits = functional.linear(rows, self.weight, self.bias)
            if self.kl_weight:
                divergence = kl(logits, targets["logits"], self.temperature)
                terms.append(_weighed(self.kl_weight, divergence))
            if self.ce_weight:
                terms.append(_weighed(self.ce_weight, cross_entropy(logits, targets["labels"])))
        return reduce(torch.add, terms) if terms else rows.new_zeros(())


def _weighed(weight: float, term: Tensor) -> Tensor:
    """A product with 1 and its gradient are a hundredth of a small network's step."""
    return term if weight == 1.0 else weight * term
