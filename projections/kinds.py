"""The table of projection kinds: adding one is a module and a line here."""

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from jaxtyping import Float

from projections.base import Projection, ProjectionError, RandomProjection, UnknownKindError
from projections.bound import gaussian_ratio_std, hadamard_ratio_std, orthonormal_ratio_std
from projections.discriminant import DiscriminantProjection
from projections.fisher import FisherProjection, Logits
from projections.fitted import FittedProjection, MomentsProjection, NestedProjection
from projections.gaussian import GaussianProjection
from projections.hadamard import HadamardProjection
from projections.head_svd import HeadSVDProjection
from projections.learned import LearnedProjection
from projections.moments import Moments
from projections.orthogonal import OrthogonalProjection
from projections.pca import PCAProjection
from projections.sparse import AchlioptasProjection, SparseProjection


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind: how to make it, and what is known of it before any data is seen."""

    estimator: type[RandomProjection] | type[FittedProjection]
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
        "pca": Kind(estimator=PCAProjection, needs_data=True, ratio_std=None),
        "discriminant": Kind(estimator=DiscriminantProjection, needs_data=True, ratio_std=None),
        "head-svd": Kind(estimator=HeadSVDProjection, needs_data=True, ratio_std=None),
        "fisher": Kind(estimator=FisherProjection, needs_data=True, ratio_std=None),
        "learned": Kind(estimator=LearnedProjection, needs_data=True, ratio_std=None),
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
    estimator = kind_of(kind).estimator
    if not issubclass(estimator, RandomProjection):
        raise ProjectionError(f"a {kind} map is computed from rows: fit it on a store first")
    return estimator(dim_out, seed=seed).fit_width(dim_in)


def fit_projections(
    kind: str,
    moments: Moments,
    dims: Sequence[int],
    *,
    head: Float[np.ndarray, "classes dim"] | None = None,
    logits: Iterable[Logits] | None = None,
) -> tuple[NestedProjection, ...]:
    """Fit the maps of a kind to each of ``dims`` dimensions, by one decomposition of the moments.

    ``head`` is the weight of the trained full head, which ``head-svd`` and ``fisher`` truncate, and
    ``logits`` are what it says of the train rows, block after block, which ``fisher`` weighs; the
    others do not look at them. ``ProjectionError`` for kinds that moments and a head do not
    determine, for widths that the data does not allow and for moments of one class where classes
    are needed.
    """
    estimator = kind_of(kind).estimator
    if not issubclass(estimator, NestedProjection):
        raise ProjectionError(f"moments do not determine a {kind} map: fit it another way")
    widest = estimator(max(dims))
    if isinstance(widest, MomentsProjection) and not isinstance(widest, HeadSVDProjection):
        widest.fit_moments(moments)
    elif head is None:
        raise ProjectionError(f"a {kind} map truncates the trained full head: train one first")
    elif isinstance(widest, FisherProjection):
        widest.fit_head(moments, head, logits or ())
    elif isinstance(widest, HeadSVDProjection):
        widest.fit_head(moments, head)
    return tuple(widest.narrowed(dim_out) for dim_out in dims)


def expected_ratio_std(kind: str, dim_in: int, dim_out: int) -> float | None:
    """Spread of squared distance after over before, over random maps; None where none is known.

    None for any map the table has no formula for, also for what is no projection at all.
    """
    entry = KINDS.get(kind)
    return entry.ratio_std(dim_in, dim_out) if entry and entry.ratio_std else None
