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
from projections.discriminant import DiscriminantProjection, oas_shrinkage
from projections.fisher import FisherProjection, class_information
from projections.gathering import gather_fold_moments, gather_moments
from projections.gaussian import GaussianProjection
from projections.hadamard import HadamardProjection
from projections.head_svd import HeadSVDProjection
from projections.intrinsic import (
    IntrinsicDimension,
    intrinsic_dimension,
    levina_bickel,
    two_nn,
)
from projections.kinds import (
    KINDS,
    expected_ratio_std,
    fit_projections,
    kind_of,
    make_projection,
)
from projections.learned import LearnedProjection, learn_projection
from projections.moments import Moments
from projections.orthogonal import OrthogonalProjection
from projections.pca import PCAProjection
from projections.ridge import nearest_mean_head, ridge_head
from projections.saved import load_moments, load_projection, save_moments, save_projection
from projections.separation import Separation, retained_separation
from projections.sparse import AchlioptasProjection, SparseProjection

__all__ = [
    "KINDS",
    "AchlioptasProjection",
    "Collapse",
    "DiscriminantProjection",
    "FisherProjection",
    "GaussianProjection",
    "HadamardProjection",
    "HeadSVDProjection",
    "IntrinsicDimension",
    "LearnedProjection",
    "Moments",
    "OrthogonalProjection",
    "PCAProjection",
    "Projection",
    "ProjectionError",
    "Separation",
    "SparseProjection",
    "UnknownKindError",
    "class_information",
    "covariance_participation_ratio",
    "effective_rank",
    "expected_ratio_std",
    "fit_projections",
    "gather_fold_moments",
    "gather_moments",
    "intrinsic_dimension",
    "jl_dim",
    "jl_eps",
    "kind_of",
    "learn_projection",
    "levina_bickel",
    "load_moments",
    "load_projection",
    "make_projection",
    "nearest_mean_head",
    "neural_collapse",
    "oas_shrinkage",
    "participation_ratio",
    "rankme",
    "retained_separation",
    "ridge_head",
    "save_moments",
    "save_projection",
    "shared_shift",
    "two_nn",
]
