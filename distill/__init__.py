"""Subspace-native distillation: small models from low-dimensional views of a large one's features.

Every command of the command line is a function here, with the same defaults and results; each is
loaded when it is first asked for.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distill.pipeline import *  # noqa: F403

# The front door of distill.pipeline, word for word: naming it must not load it.
__all__ = [  # noqa: F405
    "UserError",
    "compare_students",
    "doctor",
    "export",
    "export_store",
    "extract",
    "frontier",
    "import_features",
    "info",
    "load_nested_lm",
    "load_predictor",
    "nest",
    "nest_lm",
    "plan",
    "predict",
    "project",
    "report",
    "run",
    "sweep",
    "train_head",
    "train_student",
    "train_teacher",
    "validate",
    "verify",
]


def __getattr__(name: str) -> Any:
    """Load the pipeline when one of its functions is first named."""
    if name not in __all__:
        raise AttributeError(f"module 'distill' has no attribute {name!r}")
    from distill import pipeline

    return getattr(pipeline, name)


def __dir__() -> list[str]:
    """Also what is not loaded yet."""
    return sorted({*globals(), *__all__})
