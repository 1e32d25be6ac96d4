"""Data sets: a name becomes examples with stable ids, labels and class names."""

from distill.datasets.base import Dataset, Inputs, Reader, Split
from distill.datasets.errors import BadInputError, DataError, UnknownDatasetError
from distill.datasets.labels import Labels, encode_labels
from distill.datasets.registry import FORMATS, load_dataset
from distill.datasets.splits import SPLIT_STRIDE, SPLITS, carve, split_ids

__all__ = [
    "FORMATS",
    "SPLITS",
    "SPLIT_STRIDE",
    "BadInputError",
    "DataError",
    "Dataset",
    "Inputs",
    "Labels",
    "Reader",
    "Split",
    "UnknownDatasetError",
    "carve",
    "encode_labels",
    "load_dataset",
    "split_ids",
]
