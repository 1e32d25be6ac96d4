"""Linear maps to fewer dimensions, as scikit-learn transformers: the front door."""

from projections.base import Projection, ProjectionError, UnknownKindError
from projections.bound import jl_dim, jl_eps, shared_shift
from projections.collapse import Collapse, neural_collapse
from projections.dimension import (
    covariance_participation_ratio,
    effective_rank,
    participation_ratio,
    rankme,
)
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
    "Collapse",
    "GaussianProjection",
    "IntrinsicDimension",
    "Moments",
    "OrthogonalProjection",
    "Projection",
    "ProjectionError",
    "UnknownKindError",
    "covariance_participation_ratio",
    "effective_rank",
    "expected_ratio_std",
    "gather_fold_moments",
    "gather_moments",
    "intrinsic_dimension",
    "jl_dim",
    "jl_eps",
    "kind_of",
    "levina_bickel",
    "make_projection",
    "neural_collapse",
    "participation_ratio",
    "rankme",
    "shared_shift",
    "two_nn",
]
