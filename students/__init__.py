"""Student networks, linear heads and the loop that trains them."""

from students.blueprint import Blueprint
from students.checkpoint import read_tensors, write_tensors
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
    in_memory,
    make_feed,
    plain_order,
    shuffled_order,
    windowed_order,
)
from students.inference import evaluate_logits, forward_rows
from students.losses import DISTANCES, LabelLoss, LogitLoss, SubspaceLoss, get_distance
from students.recipe import Evaluation, Recipe
from students.steps import place
from students.training import FitResult, fit

__all__ = [
    "DISTANCES",
    "Batch",
    "Blueprint",
    "CheckpointError",
    "Classifier",
    "DivergedError",
    "Encoder",
    "Evaluation",
    "Feed",
    "FitResult",
    "LabelLoss",
    "LoaderFeed",
    "LogitLoss",
    "MemoryFeed",
    "Recipe",
    "RecipeError",
    "StudentError",
    "StudentWeightsError",
    "SubspaceLoss",
    "UnknownLossError",
    "UnknownStudentError",
    "build",
    "build_student",
    "count_parameters",
    "evaluate_logits",
    "fit",
    "forward_rows",
    "fresh_head",
    "get_distance",
    "in_memory",
    "make_feed",
    "place",
    "plain_order",
    "read_tensors",
    "shuffled_order",
    "windowed_order",
    "write_tensors",
]
