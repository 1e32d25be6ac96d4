"""Three ways to apply a matrix of rank r, what each costs, and the factors of the gauge form.

W (d_out, d_in) = up (d_out, r) @ down (r, d_in) costs, in FLOPs a row of inputs (two a
multiply-add),

    factored   2 r (d_in + d_out)        two products
    dense      2 d_in d_out              one product with W
    gauge      2 r (d_in + d_out - r)    two products, r x r of whose numbers are the identity

Factored is dearer than dense beyond the break-even rank d_in d_out / (d_in + d_out). Gauge never
is: W = (up G) (G^-1 down) for any invertible G, and a G that turns an r x r block into the
identity spares its products, since dense - gauge = 2 (d_in - r) (d_out - r) >= 0.

The block must be well conditioned: its rows are chosen by QR with pivoting. The leading rows lose
two to four digits, the chosen ones none that count. The choice is of one rank: gauges do not nest.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.linalg
import torch
from jaxtyping import Float, Int64
from torch import Tensor

Form = Literal["dense", "factored", "gauge"]
Side = Literal["rows", "columns"]

# A gauge's gather takes time that no FLOP counts: it must save a twentieth of two products, or a
# tenth of one, to be as fast (benchmarks/nested.py).
OF_FACTORED, OF_DENSE = 0.95, 0.9


def break_even(d_in: int, d_out: int) -> float:
    """Give the rank above which two products cost more than one."""
    return d_in * d_out / (d_in + d_out)


def form_cost(d_in: int, d_out: int, rank: int, form: Form) -> int:
    """FLOPs of one row of inputs in this form; bias and permutations count nothing."""
    if form == "dense":
        return 2 * d_in * d_out
    return 2 * rank * (d_in + d_out - (rank if form == "gauge" else 0))


def cheapest_form(d_in: int, d_out: int, rank: int, *, gauges: bool = True) -> Form:
    """Give the form of the fewest FLOPs; a gauge must save 5 % of factored and 10 % of dense.

    So costs are not quite monotone in the rank: the first rank in gauge form costs up to 5 % less
    than the last in factored form.
    """
    factored, dense, spared = (
        form_cost(d_in, d_out, rank, form) for form in ("factored", "dense", "gauge")
    )
    fits = gauges and rank < min(d_in, d_out)
    if fits and spared <= OF_FACTORED * factored and spared <= OF_DENSE * dense:
        return "gauge"
    return "dense" if dense <= factored else "factored"


@dataclass(frozen=True, kw_only=True, eq=False)
class Gauge:
    """``wide`` and ``mix`` of W, or of its transpose for the side ``"columns"``.

    For ``"rows"``, W[kept] = wide and W[rest] = mix @ wide: of y = W x, the numbers ``kept`` are
    t = wide @ x and the others mix @ t. For ``"columns"``, W[:, kept] = wideᵀ and
    W[:, rest] = wideᵀ @ mixᵀ: y = wideᵀ @ (x[kept] + mixᵀ @ x[rest]).
    """

    side: Side
    kept: Int64[Tensor, " rank"]
    rest: Int64[Tensor, " others"]
    wide: Float[Tensor, "rank across"]
    mix: Float[Tensor, "others rank"]


def gauge(up: Float[Tensor, "d_out rank"], down: Float[Tensor, "rank d_in"], side: Side) -> Gauge:
    """Choose rows (or columns) of W that span the others, and write the others by them.

    Of the dtype and on the device of ``up``; found in float64. Needs rank <= the side's width.
    """
    if side == "columns":
        up, down = down.T, up.T
    left, right = (factor.detach().cpu().double() for factor in (up, down))
    # orthonormal columns span the same rows' relations, whatever the spectrum of the factors
    basis: np.ndarray = torch.linalg.qr(left)[0].numpy()
    rank = basis.shape[1]
    upper, order = scipy.linalg.qr(basis.T, mode="r", pivoting=True, check_finite=False)
    mix = scipy.linalg.solve_triangular(upper[:, :rank], upper[:, rank:], check_finite=False).T
    kept, rest = (torch.from_numpy(part.astype(np.int64)) for part in np.split(order, [rank]))
    return Gauge(
        side=side,
        kept=kept.to(up.device),
        rest=rest.to(up.device),
        wide=(left[kept] @ right).to(up),
        mix=torch.from_numpy(np.ascontiguousarray(mix)).to(up),
    )
