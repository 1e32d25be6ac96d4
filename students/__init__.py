"""Student networks, linear heads and the loop that trains them."""

from students.attenuation import Attenuation, fit_attenuation
from students.blueprint import Blueprint
from students.checkpoint import plain_settings, read_tensors, same_settings, write_tensors
from students.counting import counting
from students.distances import DISTANCES, get_distance
from students.embeddings import slice_embeddings
from students.encoders import (
    Classifier,
    Encoder,
    build,
    build_student,
    count_parameters,
    fresh_head,
)
from students.errors import (
    CheckpointError,
    DivergedError,
    HeadError,
    MemoryShortError,
    RecipeError,
    StudentError,
    StudentWeightsError,
    UnknownLossError,
    UnknownStudentError,
)
from students.feeds import (
    Batch,
    Feed,
    LoaderFeed,
    MemoryFeed,
    batched,
    in_memory,
    make_feed,
    plain_order,
    shuffled_order,
    windowed_order,
    with_targets,
)
from students.fisher import fisher_metric
from students.head_files import load_head, save_head
from students.heads import FittedHead, fit_head, fit_path, fit_path_read
from students.hub import PretrainedStudent, load
from students.inference import evaluate_logits, forward_rows, knn_accuracy
from students.losses import (
    UNLABELLED,
    LabelLoss,
    LogitLoss,
    Prefix,
    SubspaceLoss,
    check_prefixes,
)
from students.parallel import Released, World, following, join_world
from students.recipe import Evaluation, Recipe
from students.rivals import (
    DecoupledLoss,
    LogitSquareLoss,
    Matching,
    MatchingLoss,
    OrthogonalProjector,
    StandardisedLoss,
    linear_projector,
    random_projector,
    simkd_projector,
)
from students.saved import SavedStudent, carried_head, load_student, read_card, save_student
from students.sizing import AUTO, choose_student, multiply_adds
from students.state import FitResult
from students.steps import place
from students.text import positions_of
from students.training import fit
from students.treatments import averaged_over_views, class_means, label_shrunk, top_logits
from students.whitening import (
    COORDINATES,
    Coordinates,
    mean_and_covariance,
    standardise,
    whiten,
)

__all__ = [
    "AUTO",
    "COORDINATES",
    "DISTANCES",
    "UNLABELLED",
    "Attenuation",
    "Batch",
    "Blueprint",
    "CheckpointError",
    "Classifier",
    "Coordinates",
    "DecoupledLoss",
    "DivergedError",
    "Encoder",
    "Evaluation",
    "Feed",
    "FitResult",
    "FittedHead",
    "HeadError",
    "LabelLoss",
    "LoaderFeed",
    "LogitLoss",
    "LogitSquareLoss",
    "Matching",
    "MatchingLoss",
    "MemoryFeed",
    "MemoryShortError",
    "OrthogonalProjector",
    "Prefix",
    "PretrainedStudent",
    "Recipe",
    "RecipeError",
    "Released",
    "SavedStudent",
    "StandardisedLoss",
    "StudentError",
    "StudentWeightsError",
    "SubspaceLoss",
    "UnknownLossError",
    "UnknownStudentError",
    "World",
    "averaged_over_views",
    "batched",
    "build",
    "build_student",
    "carried_head",
    "check_prefixes",
    "choose_student",
    "class_means",
    "count_parameters",
    "counting",
    "evaluate_logits",
    "fisher_metric",
    "fit",
    "fit_attenuation",
    "fit_head",
    "fit_path",
    "fit_path_read",
    "following",
    "forward_rows",
    "fresh_head",
    "get_distance",
    "in_memory",
    "join_world",
    "knn_accuracy",
    "label_shrunk",
    "linear_projector",
    "load",
    "load_head",
    "load_student",
    "make_feed",
    "mean_and_covariance",
    "multiply_adds",
    "place",
    "plain_order",
    "plain_settings",
    "positions_of",
    "random_projector",
    "read_card",
    "read_tensors",
    "same_settings",
    "save_head",
    "save_student",
    "shuffled_order",
    "simkd_projector",
    "slice_embeddings",
    "standardise",
    "top_logits",
    "whiten",
    "windowed_order",
    "with_targets",
    "write_tensors",
]
