"""Students as files of other runtimes: ONNX and torch.export, with all that is needed to use them.

What each format needs to be written is loaded when it is: ONNX is an optional dependency.
"""

from distill.shipping.facts import Facts, facts_of
from distill.shipping.formats import FORMATS, check_output, choose_format
from distill.shipping.graphs import BATCHES, Graph, Shipped, graph_of
from distill.shipping.int8 import quantised
from distill.shipping.onnx_files import add_facts, run_onnx, save_onnx, to_onnx
from distill.shipping.onnx_students import OnnxStudent, read_onnx
from distill.shipping.programs import read_facts, run_program, save_program
from distill.shipping.writing import check

__all__ = [
    "BATCHES",
    "FORMATS",
    "Facts",
    "Graph",
    "OnnxStudent",
    "Shipped",
    "add_facts",
    "check",
    "check_output",
    "choose_format",
    "facts_of",
    "graph_of",
    "quantised",
    "read_facts",
    "read_onnx",
    "run_onnx",
    "run_program",
    "save_onnx",
    "save_program",
    "to_onnx",
]
