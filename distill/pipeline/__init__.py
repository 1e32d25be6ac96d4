"""The commands as functions: build the parts from a config, run the stages, skip the finished."""

from distill.options import documented
from distill.pipeline.budgeting import frontier
from distill.pipeline.comparing import compare_students
from distill.pipeline.exporting import export
from distill.pipeline.language import load_nested_lm, nest_lm
from distill.pipeline.learning import train_head, train_student
from distill.pipeline.looking import (
    doctor,
    export_store,
    import_features,
    info,
    load_predictor,
    predict,
    verify,
)
from distill.pipeline.nesting import nest
from distill.pipeline.opening import UserError
from distill.pipeline.planning import plan
from distill.pipeline.projecting import project, validate
from distill.pipeline.sweeping import sweep
from distill.pipeline.teaching import extract, train_teacher
from distill.pipeline.telling import report, run

__all__ = [
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

for _command in __all__:
    if _command != "UserError":  # so that help() names the options, which a signature does not
        globals()[_command].__doc__ = documented(globals()[_command])
