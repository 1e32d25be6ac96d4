"""Data sets: a name becomes examples with stable ids, labels and class names."""

from distill.datasets.base import Dataset, Inputs, Part, Reader, Source, Split
from distill.datasets.errors import BadInputError, DataError, UnknownDatasetError
from distill.datasets.features import FeatureRows, open_rows
from distill.datasets.files import TABLES, open_table
from distill.datasets.label_files import Column, find_labels, read_column
from distill.datasets.labels import MISSING, Labels, encode_labels
from distill.datasets.paths import digest_of
from distill.datasets.registry import FORMATS, load_dataset, load_pool
from distill.datasets.splits import SPLIT_STRIDE, SPLITS, assemble, carve, split_ids
from distill.datasets.windows import Windows, load_windows

__all__ = [
    "FORMATS",
    "MISSING",
    "SPLITS",
    "SPLIT_STRIDE",
    "TABLES",
    "BadInputError",
    "Column",
    "DataError",
    "Dataset",
    "FeatureRows",
    "Inputs",
    "Labels",
    "Part",
    "Reader",
    "Source",
    "Split",
    "UnknownDatasetError",
    "Windows",
    "assemble",
    "carve",
    "digest_of",
    "encode_labels",
    "find_labels",
    "load_dataset",
    "load_pool",
    "load_windows",
    "open_rows",
    "open_table",
    "read_column",
    "split_ids",
]
