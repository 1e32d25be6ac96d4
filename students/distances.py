"""Distances between a student's rows g and their targets z: pure functions, one number a batch.

``DISTANCES`` holds those that need nothing but the two. The paper's equation 4 is ‖g(x) - z‖²; the
mean over the k coordinates taken here divides it by the constant k, so that a learning rate means
the same at every k. ``fisher`` needs a metric too (``students.fisher`` makes one).
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from students.errors import UnknownLossError, nearest

_LIGHTEST = 0.01  # of the mean squared length: no row weighs more than 100 average ones
_SHORTEST = 1e-3  # of the mean distance: nearer rows have no direction from one another
_POWER = 4  # alpha of logsum
_ANGLES = 2.0  # weight of angles beside distances, as in the paper's experiments (50 and 25)


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


def logsum(found: Float[Tensor, "rows k"], target: Float[Tensor, "rows k"]) -> Float[Tensor, ""]:
    """Log of Σ |g - z|⁴ over the coordinates, averaged over rows inside the logarithm.

    The LogSum of Miles & Mikolajczyk (arXiv 2303.11098, α = 4), less the constant log(rows): its
    gradient is that of the relative error, and its fourth power looks at the worst coordinates.
    Another scale of both adds a constant. Not a distance in that it has no zero: it falls for ever.
    """
    apart = (found - target).abs()
    largest = apart.detach().amax().clamp_min(torch.finfo(apart.dtype).tiny)
    # between 1 / rows and k, unless all is equal: neither a large nor a small error is lost
    powers = (apart / largest).pow(_POWER).sum(dim=1).mean()
    return powers.clamp_min(torch.finfo(apart.dtype).tiny).log() + _POWER * largest.log()


def relational(
    found: Float[Tensor, "rows k"], target: Float[Tensor, "rows k"]
) -> Float[Tensor, ""]:
    """Whether rows lie to one another as their targets do: distances, and twice the angles.

    Relational knowledge distillation (Park et al., arXiv 1904.05068, equations 3 to 8): the Huber
    loss of distances over their mean, averaged over pairs, plus that of the cosines at each row of
    every two others, averaged over triples. Blind to where the rows lie, to their size and to
    turns, so that a head that is carried over needs another term beside it. Takes rows² (rows + k)
    numbers of memory.
    """
    distances, angles = _relations(found)
    with torch.no_grad():
        wanted_distances, wanted_angles = _relations(target)
    nearness = functional.smooth_l1_loss(distances, wanted_distances)
    return nearness + _ANGLES * functional.smooth_l1_loss(angles, wanted_angles)


def _relations(
    rows: Float[Tensor, "rows k"],
) -> tuple[Float[Tensor, "rows rows"], Float[Tensor, "rows rows rows"]]:
    """Distances over their mean, and at [j, i, l] the cosine at row j of the angle to i and l."""
    pairs = max(1, len(rows) * (len(rows) - 1))
    # the quick way by products would lose the small distances
    lengths = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")
    mean = (lengths.sum() / pairs).clamp_min(1e-12)
    apart = rows.unsqueeze(0) - rows.unsqueeze(1)
    floor = _SHORTEST * mean.detach()
    directions = apart / torch.maximum(lengths, floor).unsqueeze(2)
    return lengths / mean, directions @ directions.transpose(1, 2)


def fisher(
    found: Float[Tensor, "rows k"],
    target: Float[Tensor, "rows k"],
    metric: Float[Tensor, "k k"],
) -> Float[Tensor, ""]:
    """(g - z)ᵀ M (g - z) / k, averaged over rows; ``mse`` where M is the identity.

    With M = E[Wᵀ (diag p - p pᵀ) W] it is, to second order, twice the divergence of the student's
    classes from the teacher's, over k. M is symmetric and has no negative eigenvalue.
    """
    apart = found - target
    return ((apart @ metric) * apart).mean()


Distance = Callable[[Tensor, Tensor], Tensor]

DISTANCES: dict[str, Distance] = {
    "mse": mse,
    "normalised-mse": normalised_mse,
    "cosine": cosine,
    "relational": relational,
    "logsum": logsum,
}


def get_distance(name: str) -> Distance:
    """Look a distance up by name; ``UnknownLossError`` says which name is near."""
    try:
        return DISTANCES[name]
    except KeyError:
        raise UnknownLossError(f"no loss named {name!r}{nearest(name, DISTANCES)}") from None
