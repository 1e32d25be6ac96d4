"""One network, any budget at run time: layers whose first ranks are networks of their own.

(Rauba & van der Schaar, Nested Subspace Networks, arXiv 2509.17874.) ``nest`` turns a trained
network into one, ``set_rank`` and ``set_budget`` choose what it costs, ``using_ranks`` for one
request alone, and ``materialise`` makes a plain network of it again.
"""

from students.nested.base import NestedLayer
from students.nested.budgets import (
    NestedPath,
    PathPoint,
    attach,
    budget_of,
    find_path,
    nested_path,
    set_budget,
    using_budget,
)
from students.nested.calibration import Moment, second_moments
from students.nested.cost import Costs, count_flops, dense_costs
from students.nested.curriculum import SAMPLINGS, sampler
from students.nested.errors import (
    BudgetError,
    CalibrationError,
    NestedError,
    OtherSurgeryError,
    RankError,
    SurgeryError,
)
from students.nested.forms import Form, Gauge, break_even, cheapest_form, form_cost, gauge
from students.nested.gauges import ColumnsGauge, Factored, FactoredTable, RowsGauge
from students.nested.hints import hint_loss, hint_spreads
from students.nested.initial import Factors, svd_factors, whitened_factors
from students.nested.kinds import matrix_of, nested
from students.nested.layers import NestedConv2d, NestedEmbedding, NestedLinear
from students.nested.materialise import materialise
from students.nested.norms import NormStatistics, held_norms, load_norms, measure_norms, using_norms
from students.nested.objective import NestedObjective, RankFigures, StepFigures
from students.nested.own import biasable_layers, give_biases
from students.nested.path import (
    Candidates,
    Setting,
    best_setting,
    candidate_ranks,
    candidates,
    greedy_path,
    uniform_path,
    useful_ranks,
)
from students.nested.presets import PRESETS, holds_a_matrix
from students.nested.ranks import (
    Ranks,
    nested_layers,
    prepare,
    ranks,
    set_rank,
    unprepare,
    using_ranks,
)
from students.nested.recipe import ANCHOR, DISTILLATIONS, WEIGHINGS, NestedRecipe
from students.nested.saved import SavedNested, fill, load, read_nested, save_nested
from students.nested.selection import Selection, select
from students.nested.sensitivity import Tried, divergence, sensitivities
from students.nested.surgery import INITS, nest, nest_like
from students.nested.surgery_record import Replaced, Surgery, attach_surgery, surgery_of
from students.nested.training import Learning, RankPasses, Witness, evaluate_ranks

__all__ = [
    "ANCHOR",
    "DISTILLATIONS",
    "INITS",
    "PRESETS",
    "SAMPLINGS",
    "WEIGHINGS",
    "BudgetError",
    "CalibrationError",
    "Candidates",
    "ColumnsGauge",
    "Costs",
    "Factored",
    "FactoredTable",
    "Factors",
    "Form",
    "Gauge",
    "Learning",
    "Moment",
    "NestedConv2d",
    "NestedEmbedding",
    "NestedError",
    "NestedLayer",
    "NestedLinear",
    "NestedObjective",
    "NestedPath",
    "NestedRecipe",
    "NormStatistics",
    "OtherSurgeryError",
    "PathPoint",
    "RankError",
    "RankFigures",
    "RankPasses",
    "Ranks",
    "Replaced",
    "RowsGauge",
    "SavedNested",
    "Selection",
    "Setting",
    "StepFigures",
    "Surgery",
    "SurgeryError",
    "Tried",
    "Witness",
    "attach",
    "attach_surgery",
    "best_setting",
    "biasable_layers",
    "break_even",
    "budget_of",
    "candidate_ranks",
    "candidates",
    "cheapest_form",
    "count_flops",
    "dense_costs",
    "divergence",
    "evaluate_ranks",
    "fill",
    "find_path",
    "form_cost",
    "gauge",
    "give_biases",
    "greedy_path",
    "held_norms",
    "hint_loss",
    "hint_spreads",
    "holds_a_matrix",
    "load",
    "load_norms",
    "materialise",
    "matrix_of",
    "measure_norms",
    "nest",
    "nest_like",
    "nested",
    "nested_layers",
    "nested_path",
    "prepare",
    "ranks",
    "read_nested",
    "sampler",
    "save_nested",
    "second_moments",
    "select",
    "sensitivities",
    "set_budget",
    "set_rank",
    "surgery_of",
    "svd_factors",
    "uniform_path",
    "unprepare",
    "useful_ranks",
    "using_budget",
    "using_norms",
    "using_ranks",
    "whitened_factors",
]
