"""What other ways of distilling compare, and the parts they need while the student learns.

DKD (arXiv 2203.08679), logits by their squares (Ba & Caruana, arXiv 1312.6184), features of full
width behind a learned linear map (FitNet, arXiv 1412.6550) or an orthogonal one (VkD, arXiv
2403.06213), the teacher's own head behind a learned projector (SimKD, arXiv 2203.14001), and
features of both sides behind random maps (RdimKD, arXiv 2312.08700).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from students.errors import StudentError
from students.losses import UNLABELLED, cross_entropy, kl

# --- losses ---------------------------------------------------------------------------------------


def logit_mse(
    logits: Float[Tensor, "rows classes"], teacher: Float[Tensor, "rows classes"]
) -> Float[Tensor, ""]:
    """Mean over rows and classes of (logit - teacher's logit)² (arXiv 1312.6184, equation 1).

    Softmax does not see what is added to all logits of a row, and this does: so each row's mean
    is taken away on both sides.
    """
    return functional.mse_loss(_centred(logits), _centred(teacher))


def decoupled_kl(
    logits: Float[Tensor, "rows classes"],
    teacher: Float[Tensor, "rows classes"],
    labels: Int64[Tensor, " rows"],
    *,
    alpha: float,
    beta: float,
    temperature: float,
) -> Float[Tensor, ""]:
    """T² (alpha TCKD + beta NCKD), averaged over rows (arXiv 2203.08679, equation 7).

    TCKD is the KL between the chances of the label's class and of all others together; NCKD that
    among the others alone. With beta = 1 - (teacher's chance of the label), row by row, and
    alpha = 1 their sum would be the whole KL. A row without a label takes the teacher's class.
    """
    target = torch.where(labels == UNLABELLED, teacher.argmax(dim=1), labels)[:, None]
    found, aim = (_decoupled(given / temperature, target) for given in (logits, teacher))
    target_kl, others_kl = (
        functional.kl_div(f, a, reduction="batchmean", log_target=True)
        for f, a in zip(found, aim, strict=True)
    )
    return temperature**2 * (alpha * target_kl + beta * others_kl)


def _decoupled(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Logarithms of (target's chance, that of the others), and of the others among themselves."""
    rows, classes = logits.shape
    kept = torch.ones_like(logits, dtype=torch.bool).scatter_(1, target, value=False)
    others = logits[kept].view(rows, classes - 1)
    among = functional.log_softmax(others, dim=1)
    pair = torch.cat([logits.gather(1, target), others.logsumexp(dim=1, keepdim=True)], dim=1)
    return functional.log_softmax(pair, dim=1), among


def _centred(logits: Tensor) -> Tensor:
    return logits - logits.mean(dim=1, keepdim=True)


@dataclass(frozen=True, kw_only=True)
class LogitSquareLoss:
    """``logit_mse`` of logits divided by ``scale`` + cross-entropy."""

    scale: float  # of the teacher's centred logits, so that a weight means the same everywhere
    target_weight: float = 1.0
    ce_weight: float = 0.0

    def __call__(self, logits: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """``targets`` holds ``logits`` (rows, classes) of the teacher, and ``labels``."""
        squares = logit_mse(logits, targets["logits"]) / self.scale**2
        return _with_labels(self.target_weight * squares, logits, targets, self.ce_weight)


@dataclass(frozen=True, kw_only=True)
class DecoupledLoss:
    """``decoupled_kl`` + cross-entropy. The paper's defaults for CIFAR-100."""

    alpha: float = 1.0
    beta: float = 8.0
    temperature: float = 4.0
    ce_weight: float = 1.0

    def __call__(self, logits: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """``targets`` holds ``logits`` (rows, classes) of the teacher, and ``labels``."""
        divergence = decoupled_kl(
            logits,
            targets["logits"],
            targets["labels"],
            alpha=self.alpha,
            beta=self.beta,
            temperature=self.temperature,
        )
        return _with_labels(divergence, logits, targets, self.ce_weight)


@dataclass(frozen=True, kw_only=True)
class MatchingLoss:
    """Mean of (rows - targets / scale)² + T² KL + cross-entropy: features matched, classes learned.

    ``rows`` of the network are of its projector, ``targets`` the teacher's, of spread ``scale``.
    With ``decouple`` the KL is DKD's (``decoupled_kl``), alpha 1 and beta so much. Terms of weight
    0 are not computed.
    """

    scale: float
    target_weight: float = 1.0
    ce_weight: float = 1.0
    kl_weight: float = 0.0
    temperature: float = 1.0
    decouple: float = 0.0

    def __call__(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Tensor:
        """``outputs`` holds ``rows`` and ``logits``, ``targets`` holds ``targets`` and ``labels``.

        With a weight of the KL also ``logits``. Without weight on labels and logits the network
        need not give logits.
        """
        rows = _same_width(outputs["rows"], targets)
        found = self.target_weight * functional.mse_loss(rows, targets["targets"] / self.scale)
        if self.kl_weight:
            found = found + self.kl_weight * self._divergence(outputs["logits"], targets)
        return _with_labels(found, outputs.get("logits"), targets, self.ce_weight)

    def _divergence(self, logits: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        if not self.decouple:
            return kl(logits, targets["logits"], self.temperature)
        return decoupled_kl(
            logits,
            targets["logits"],
            targets["labels"],
            alpha=1.0,
            beta=self.decouple,
            temperature=self.temperature,
        )


@dataclass(frozen=True, kw_only=True)
class StandardisedLoss:
    """VkD: the smooth L1 distance to the teacher's row, itself standardised, + cross-entropy.

    Standardised is a layer norm without weights, as in the authors' code.
    """

    target_weight: float = 1.0
    ce_weight: float = 1.0

    def __call__(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Tensor:
        """As ``MatchingLoss``."""
        rows = _same_width(outputs["rows"], targets)
        aim = functional.layer_norm(targets["targets"], rows.shape[1:])
        found = self.target_weight * functional.smooth_l1_loss(rows, aim)
        return _with_labels(found, outputs.get("logits"), targets, self.ce_weight)


def _with_labels(
    found: Tensor, logits: Tensor | None, targets: Mapping[str, Tensor], weight: float
) -> Tensor:
    if not weight:
        return found
    if logits is None:
        raise StudentError("labels are to be learned, and the network gives no logits")
    return found + weight * cross_entropy(logits, targets["labels"])


def _same_width(rows: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
    if rows.shape != targets["targets"].shape:
        raise StudentError(
            f"the projector gives rows of width {rows.shape[-1]}, and its targets have "
            f"{targets['targets'].shape[-1]}"
        )
    return rows


# --- parts that help while the student learns -----------------------------------------------------


class Matching(nn.Module):
    """A student that learns with a projector beside its head; the projector is thrown away."""

    def __init__(self, encoder: nn.Module, head: nn.Module, projector: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.projector = projector

    def forward(self, prepared: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """``rows`` of the projector and ``logits`` of the head, of the same features."""
        features = self.encoder(prepared)
        return {"rows": self.projector(features), "logits": self.head(features)}


class OrthogonalProjector(nn.Module):
    """x -> x Q, where Q (dim_in, dim_out) keeps orthonormal columns, or rows, while it learns.

    Q is the Cayley transform (I - A/2)^-1 (I + A/2) Q0 of the skew A = X Q0ᵀ - Q0 Xᵀ, X learned
    and 0 at first. As A has rank 2k, only 2k equations are solved (Wen & Yin 2013,
    doi:10.1007/s10107-012-0584-1, lemma 4).
    """

    start: Tensor

    def __init__(self, dim_in: int, dim_out: int, *, seed: int) -> None:
        super().__init__()
        self.wide = dim_out >= dim_in
        self.register_buffer("start", _orthonormal(dim_in, dim_out, seed=seed))
        self.moved = nn.Parameter(torch.zeros_like(self.start))

    def forward(self, features: Float[Tensor, "rows dim_in"]) -> Float[Tensor, "rows dim_out"]:
        """Rows of the same length as the features, where dim_out is not below dim_in."""
        matrix = self.matrix()
        return features @ (matrix.T if self.wide else matrix)

    def matrix(self) -> Float[Tensor, "long short"]:
        """The orthonormal columns: Q, or its transpose where dim_out is above dim_in."""
        with torch.autocast(self.start.device.type, enabled=False):  # equations need float32
            left = torch.cat([self.moved, -self.start], dim=1)
            right = torch.cat([self.start, self.moved], dim=1)
            inner = torch.eye(left.shape[1], dtype=left.dtype, device=left.device)
            solved: Tensor = torch.linalg.solve(inner - right.T @ left / 2, right.T @ self.start)
            columns: Tensor = self.start + left @ solved
        return columns


def linear_projector(dim_in: int, dim_out: int, *, seed: int) -> nn.Linear:
    """A learned linear map with the weights of ``seed``; global state is kept."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Linear(dim_in, dim_out)


def random_projector(dim_in: int, dim_out: int, *, seed: int) -> nn.Linear:
    """RdimKD's: a fixed map with orthonormal columns (rows, where dim_out is above dim_in)."""
    matrix = _orthonormal(dim_in, dim_out, seed=seed)
    with torch.random.fork_rng():
        layer = nn.Linear(dim_in, dim_out, bias=False)
    with torch.no_grad():
        layer.weight.copy_(matrix if dim_out >= dim_in else matrix.T)
    return layer.requires_grad_(False)


def simkd_projector(dim_in: int, dim_out: int, *, seed: int, reduction: int = 2) -> nn.Sequential:
    """SimKD's bottleneck of dim_out / ``reduction``, for rows: its 3 x 3 kernels are left out.

    It does not end in a ReLU as there: features after pooling or a norm may be negative. It stays
    in the student that is shipped.
    """
    inner = max(1, dim_out // reduction)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Linear(dim_in, inner, bias=False),
            nn.BatchNorm1d(inner),
            nn.ReLU(),
            nn.Linear(inner, dim_out),
        )


def _orthonormal(dim_in: int, dim_out: int, *, seed: int) -> Float[Tensor, "long short"]:
    """Random orthonormal columns, as many as the smaller of the two widths."""
    generator = torch.Generator().manual_seed(seed)
    long, short = max(dim_in, dim_out), min(dim_in, dim_out)
    drawn = torch.randn(long, short, generator=generator, dtype=torch.float64)
    columns, upper = torch.linalg.qr(drawn)
    # the same whatever signs LAPACK takes
    matrix: Tensor = (columns * upper.diagonal().sign()).float()
    return matrix
