"""Linear maps to fewer dimensions, as scikit-learn transformers: the front door."""

from projections.base import Projection, ProjectionError, UnknownKindError
from projections.bound import jl_dim, jl_eps, shared_shift
from projections.dimension import participation_ratio
from projections.gaussian import GaussianProjection
from projections.intrinsic import (
    IntrinsicDimension,
    intrinsic_dimension,
    levina_bickel,
    two_nn,
)
from projections.kinds import KINDS, expected_ratio_std, kind_of, make_projection
from projections.moments import Moments, gather_fold_moments, gather_moments
from projections.orthogonal import OrthogonalProjection

__all__ = [
    "KINDS",
    "GaussianProjection",
    "IntrinsicDimension",
    "Moments",
    "OrthogonalProjection",
    "Projection",
    "ProjectionError",
    "UnknownKindError",
    "expected_ratio_std",
    "gather_fold_moments",
    "gather_moments",
    "intrinsic_dimension",
    "jl_dim",
    "jl_eps",
    "kind_of",
    "levina_bickel",
    "make_projection",
    "participation_ratio",
    "shared_shift",
    "two_nn",
]
