"""First factors of a nested layer: W (d_out, d_in) ~ up @ down, best at every rank at once.

``svd_factors`` is the paper's: W = U S Vᵀ, up = U S^½, down = S^½ Vᵀ (arXiv 2509.17874), which
has the least ‖W - W_r‖ at every rank r. ``whitened_factors`` has the least mean ‖(W - W_r) x‖²
over inputs x of second moment C = E[x xᵀ], not centred, as in SVD-LLM (arXiv 2403.07378): the SVD
of W C^½ = U S Vᵀ, up = U S^½, down = S^½ Vᵀ C^-½. Since S Vᵀ C^-½ = Uᵀ W, that is

    W_r = U_r U_rᵀ W,   U the eigenvectors of W C Wᵀ by falling eigenvalue:

the outputs are projected on their own principal directions, and nothing is divided by C, which may
be singular. Each pair of column and row is then scaled to equal norms, as those of ``svd_factors``
are: products stay as they were, and the units of the inputs do not reach the training.

A C of few rows is shrunk: (1 - a) C + a m I. Let E be the error on C and F = ‖W - W_r‖². Shrunk
factors have the least (1 - a) E + a m F and the SVD's the least F; so with a < 1 the shrunk
factors' E is still no larger than the SVD's, at any rank and for any a.

Of its inputs W reads no more than what lies in its row space. Where d_out < d_in, C is needed in
those d_out directions Q alone (``row_space``): W = (W Q) Qᵀ, and Qᵀ C Q is the moment of Qᵀ x.

All is found in float64, by symmetric eigendecompositions of the smaller side: for 3072 x 768 half
the time of a float32 SVD.
"""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from students.nested.errors import CalibrationError, RankError

FEW = 2  # rows for each input: a covariance of fewer is mostly its sampling error


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Factors:
    """``up`` @ ``down``, columns and rows by falling importance; of dtype and device of W.

    Row by row in memory, as they are when they are read back from a file: products of other layouts
    differ in their last bits, and a training that goes on would end elsewhere.
    """

    up: Float[Tensor, "d_out rank"]
    down: Float[Tensor, "rank d_in"]


@torch.no_grad()
def svd_factors(weight: Float[Tensor, "d_out d_in"], rank: int) -> Factors:
    """U S^½ and S^½ Vᵀ of the ``rank`` largest singular values; ``RankError`` outside 1..R."""
    _check_rank(weight, rank)
    wide = weight.double()
    if weight.shape[0] <= weight.shape[1]:
        directions = _principal(wide @ wide.T, rank)
        return _balanced(directions, directions.T @ wide, like=weight)
    directions = _principal(wide.T @ wide, rank)
    return _balanced(wide @ directions, directions.T, like=weight)


@torch.no_grad()
def whitened_factors(
    weight: Float[Tensor, "d_out d_in"],
    covariance: Float64[Tensor, "d_in d_in"] | Float64[Tensor, " d_in"],
    rank: int,
) -> Factors:
    """Factors of the least mean ‖(W - W_r) x‖² at each rank; ``covariance`` or its diagonal.

    ``RankError`` outside 1..R, ``CalibrationError`` for a covariance with NaN or infinity.
    """
    _check_rank(weight, rank)
    if not covariance.isfinite().all():
        raise CalibrationError("the covariance of the inputs holds NaN or infinity")
    wide, moment = weight.double(), covariance.to(weight.device)
    if weight.shape[0] <= weight.shape[1]:
        directions = _principal(_outputs(wide, moment), rank)
        return _balanced(directions, directions.T @ wide, like=weight)
    # outputs of more numbers than inputs lie in the columns' space: look for directions there
    basis, core = torch.linalg.qr(wide)
    directions = _principal(_outputs(core, moment), rank)
    return _balanced(basis @ directions, directions.T @ core, like=weight)


@torch.no_grad()
def row_space(weight: Float[Tensor, "d_out d_in"]) -> Float64[Tensor, "d_in d_out"]:
    """Orthonormal directions of all inputs that a W with d_out <= d_in does not map to 0."""
    directions: Tensor = torch.linalg.qr(weight.double().T)[0]
    return directions


def shrink(
    moment: Float64[Tensor, "dim dim"], rows: int
) -> tuple[Float64[Tensor, "dim dim"], float]:
    """(1 - a) C + a (tr C / dim) I, and a in (0, 1], for a C that is the mean over ``rows`` rows.

    a is the oracle approximating shrinkage of normal rows of mean 0 (Chen et al., 2010,
    doi:10.1109/TSP.2010.2053029, equation 23). Rows that go together, as the tokens of a text do,
    count for fewer than they are. Inputs that are always 0 give the identity and 1.
    """
    dim = len(moment)
    trace, squares = float(moment.trace()), float(moment.square().sum())
    if trace == 0:
        return torch.eye(dim, dtype=moment.dtype, device=moment.device), 1.0
    spread = (rows + 1 - 2 / dim) * (squares - trace**2 / dim)
    sampled = (1 - 2 / dim) * squares + trace**2
    amount = min(1.0, sampled / spread) if spread > 0 else 1.0
    shrunk = (1 - amount) * moment
    shrunk.diagonal().add_(amount * trace / dim)
    return shrunk, amount


def shrink_counts(counts: Float64[Tensor, " dim"]) -> tuple[Float64[Tensor, " dim"], float]:
    """The diagonal C of one-hot inputs, each seen ``counts`` times, and how far it is shrunk.

    One is added to each count (Laplace), so that what was never seen is not lost: the same as
    ``shrink`` with a = dim / (total + dim), as tr C is 1.
    """
    dim, total = len(counts), float(counts.sum())
    return (counts + 1) / (total + dim), dim / (total + dim)


def _check_rank(weight: Tensor, rank: int) -> None:
    if not 1 <= rank <= min(weight.shape):
        d_out, d_in = weight.shape
        raise RankError(
            f"a matrix of {d_out} x {d_in} has ranks 1 to {min(weight.shape)}, got {rank}"
        )


def _outputs(wide: Tensor, moment: Tensor) -> Tensor:
    """W C Wᵀ, the second moment of the outputs."""
    weighted = wide * moment if moment.ndim == 1 else wide @ moment
    return weighted @ wide.T


def _principal(symmetric: Float64[Tensor, "dim dim"], rank: int) -> Float64[Tensor, "dim rank"]:
    """Eigenvectors of the ``rank`` largest eigenvalues, the largest first."""
    directions: Tensor = torch.linalg.eigh((symmetric + symmetric.T) / 2)[1]
    return directions.flip(1)[:, :rank]


def _balanced(up: Tensor, down: Tensor, *, like: Tensor) -> Factors:
    """The same product, each column of ``up`` as long as its row of ``down``."""
    longer = down.norm(dim=1) / up.norm(dim=0)
    scale = longer.sqrt()
    scale[~(scale.isfinite() & (scale > 0))] = 1.0  # a rank that W does not have
    return Factors(
        up=(up * scale).to(like.dtype).contiguous(),
        down=(down / scale[:, None]).to(like.dtype).contiguous(),
    )
