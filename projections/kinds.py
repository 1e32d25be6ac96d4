"""The table of projection kinds: adding one is a module and a line here."""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from projections.base import Projection, ProjectionError, RandomProjection, UnknownKindError
from projections.bound import gaussian_ratio_std, hadamard_ratio_std, orthonormal_ratio_std
from projections.gaussian import GaussianProjection
from projections.hadamard import HadamardProjection
from projections.orthogonal import OrthogonalProjection
from projections.sparse import AchlioptasProjection, SparseProjection


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind: how to make it, and what is known of it before any data is seen."""

    estimator: type[RandomProjection]
    needs_data: bool  # computed from rows, not from a seed and two widths alone
    ratio_std: Callable[[int, int], float] | None  # spread of squared-distance ratios, if known


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "gaussian": Kind(
            estimator=GaussianProjection, needs_data=False, ratio_std=gaussian_ratio_std
        ),
        "orthogonal": Kind(
            estimator=OrthogonalProjection, needs_data=False, ratio_std=orthonormal_ratio_std
        ),
        # that of a sparser map than Achlioptas' depends on the rows' fourth moments
        "sparse": Kind(estimator=SparseProjection, needs_data=False, ratio_std=None),
        "achlioptas": Kind(
            estimator=AchlioptasProjection, needs_data=False, ratio_std=gaussian_ratio_std
        ),
        "hadamard": Kind(
            estimator=HadamardProjection, needs_data=False, ratio_std=hadamard_ratio_std
        ),
    }
)


def kind_of(name: str) -> Kind:
    """Look a kind up; ``UnknownKindError`` names the nearest one."""
    if name in KINDS:
        return KINDS[name]
    near = difflib.get_close_matches(name.lower(), KINDS, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise UnknownKindError(f"no projection of kind {name!r}{hint} (known: {', '.join(KINDS)})")


def make_projection(kind: str, *, dim_in: int, dim_out: int, seed: int) -> Projection:
    """Make the map that a kind, two widths and a seed name.

    ``UnknownKindError`` for another kind, ``ProjectionError`` for widths it cannot have.
    """
    entry = kind_of(kind)
    if entry.needs_data:
        raise ProjectionError(f"a {kind} map is computed from rows: fit it on a store first")
    return entry.estimator(dim_out, seed=seed).fit_width(dim_in)


def expected_ratio_std(kind: str, dim_in: int, dim_out: int) -> float | None:
    """Spread of squared distance after over before, over random maps; None where none is known.

    None for any map the table has no formula for, also for what is no projection at all.
    """
    entry = KINDS.get(kind)
    return entry.ratio_std(dim_in, dim_out) if entry and entry.ratio_std else None
