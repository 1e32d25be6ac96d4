"""Linear maps to fewer dimensions, as scikit-learn transformers: the front door."""

from projections.base import Projection, ProjectionError, UnknownKindError
from projections.bound import jl_dim, jl_eps, shared_shift
from projections.dimension import participation_ratio
from projections.gaussian import GaussianProjection
from projections.kinds import KINDS, expected_ratio_std, kind_of, make_projection
from projections.moments import Moments, gather_fold_moments, gather_moments
from projections.orthogonal import OrthogonalProjection

__all__ = [
    "KINDS",
    "GaussianProjection",
    "Moments",
    "OrthogonalProjection",
    "Projection",
    "ProjectionError",
    "UnknownKindError",
    "expected_ratio_std",
    "gather_fold_moments",
    "gather_moments",
    "jl_dim",
    "jl_eps",
    "kind_of",
    "make_projection",
    "participation_ratio",
    "shared_shift",
]
