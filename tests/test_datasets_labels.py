"""Labels of any kind become codes: by hand, and every refusal."""

import re
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from distill.datasets import DataError, Labels, encode_labels


def encode(values: Any, classes: tuple[str, ...] = (), **others: Any) -> Labels:
    return encode_labels({"train": values, **others}, classes=classes, what="y.npy")


@pytest.mark.parametrize(
    ("values", "classes", "codes"),
    [
        pytest.param(["b", "a", "b"], ("a", "b"), [1, 0, 1], id="names"),
        pytest.param([10, 9, 10], ("9", "10"), [1, 0, 1], id="numbers-by-value"),
        pytest.param(["10", "9", "-1"], ("-1", "9", "10"), [2, 1, 0], id="written-numbers"),
        pytest.param(["10", "9", "x"], ("10", "9", "x"), [0, 1, 2], id="not-all-numbers"),
        pytest.param([True, False, True], ("false", "true"), [1, 0, 1], id="booleans"),
        pytest.param(np.array([2.0, np.nan, 1.0]), ("1", "2"), [1, -1, 0], id="whole-decimals"),
        pytest.param(["a", None, "  "], ("a",), [0, -1, -1], id="missing-and-blank"),
        pytest.param(np.array(["b", "a"]), ("a", "b"), [1, 0], id="numpy-text"),
        pytest.param(np.array([3, 1], np.uint8), ("1", "3"), [1, 0], id="bytes"),
        pytest.param(pa.array(["b", "a"]).dictionary_encode(), ("a", "b"), [1, 0], id="dictionary"),
        pytest.param(pa.array([2, None], pa.int8()), ("2",), [0, -1], id="arrow-null"),
    ],
)
def test_values_become_codes(values: Any, classes: tuple[str, ...], codes: list[int]) -> None:
    found = encode(values)
    assert (found.classes, found.codes["train"].tolist()) == (classes, codes)
    assert found.codes["train"].dtype == np.int64


def test_given_classes_are_kept_in_their_order_even_unused() -> None:
    names = ("z", "a", "unused")
    assert encode(["a", "z"], names).codes["train"].tolist() == [1, 0]
    assert encode([1, 0, -1, None], names).codes["train"].tolist() == [1, 0, -1, -1]
    assert encode([1, 0], names).classes == names


def test_splits_share_their_classes() -> None:
    found = encode(["b", "c"], test=["a"], validation=[])
    assert found.classes == ("a", "b", "c")
    assert {name: codes.tolist() for name, codes in found.codes.items()} == {
        "train": [1, 2],
        "test": [0],
        "validation": [],
    }


def test_a_split_without_any_label_is_all_missing() -> None:
    assert encode(["b", "c"], test=[None, None]).codes["test"].tolist() == [-1, -1]
    assert encode([0, 1], ("x", "y"), test=[None, None]).codes["test"].tolist() == [-1, -1]


@pytest.mark.parametrize(
    ("values", "classes", "words"),
    [
        ([0, 2], ("x", "y"), "y.npy holds 2 at train row 1, but there are 2 class names"),
        ([0, -2], ("x", "y"), "y.npy holds -2 at train row 1, but there are 2 class names"),
        ([0, 2**40], ("x", "y"), f"y.npy holds {2**40} at train row 1"),
        (["x", "z"], ("x", "y"), "y.npy holds 'z' at train row 1, which is none of the class"),
        (["dog", "cot"], ("dog", "cat"), "did you mean 'cat'?"),
        ([0.5, 1.0], (), "decimal numbers (0.5 at train row 0): regression targets"),
        ([1.0, float("inf")], (), "decimal numbers (inf at train row 1): regression targets"),
        (["0.5", "1.5"], (), "decimal numbers (0.5): regression targets"),
        ([[0], [1, 2]], (), "holds lists: multi-label targets are not supported"),
        (np.eye(2), (), "has shape (2, 2), not (rows,): one label a row is needed"),
        ([None, None], (), "holds no label at all"),
        (["", " "], (), "holds no label at all"),
        ([b"x", b"y"], (), "holds binary, not names or integers"),
        ([1, "x"], (), "mixes kinds of values"),
        (list(range(20)), (), "a different value in each of its 20 rows"),
    ],
)
def test_what_is_no_class_label_is_refused(
    values: Any, classes: tuple[str, ...], words: str
) -> None:
    with pytest.raises(DataError, match=re.escape(words)) as caught:
        encode(values, classes)
    assert "\n" not in str(caught.value)


def test_splits_of_two_kinds_are_refused() -> None:
    with pytest.raises(DataError, match="holds integers and names"):
        encode(["a", "b"], test=[0, 1])
