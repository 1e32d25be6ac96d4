"""Label files of one column: what is a header and what a label, and never a shifted row."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.datasets import Column, DataError, read_column

ROWS = 12
NAMES = ["ant", "bee", "cat"] * 4


def written(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def read(root: Path, *lines: str, name: str = "y.csv", key: str = "", rows: int = ROWS) -> Column:
    return read_column(written(root / name, *lines), key=key, rows=rows)


@pytest.mark.parametrize("name", ["y.csv", "y.tsv", "y.txt"])
@pytest.mark.parametrize(
    ("header", "labels", "key"),
    [
        pytest.param([], NAMES, "", id="none"),
        pytest.param(["label"], NAMES, "", id="customary"),
        pytest.param(["Target"], ["rare", *NAMES[1:]], "", id="customary-over-a-single-example"),
        pytest.param(["species"], NAMES, "", id="alone-in-not-occurring-again"),
        pytest.param(["digit"], [str(row) for row in range(ROWS)], "", id="words-over-numbers"),
        pytest.param(["ant"], NAMES, "ant", id="named-by-hand"),
        pytest.param([], ["rare", "other", *NAMES[2:]], "", id="single-examples"),
        pytest.param([], ["7", *"010101010101"][:ROWS], "", id="a-number-is-no-header"),
        pytest.param([], ["y", "n"] * 6, "", id="y-is-a-label-that-occurs-again"),
    ],
)
def test_a_header_is_known_by_its_content(
    tmp_path: Path, name: str, header: list[str], labels: list[str], key: str
) -> None:
    found = read(tmp_path, *header, *labels, name=name, key=key)
    assert found.values == labels
    assert found.name == "".join(header)


@pytest.mark.parametrize(
    ("lines", "key", "words"),
    [
        pytest.param(
            ["label", *NAMES[1:]], "",
            "holds 11 labels under the header 'label' for 12 rows; they must be of the same "
            "examples in the same order; if 'label' is itself one of them, put a header above it",
            id="one-short-under-a-customary-header",
        ),
        pytest.param(
            ["species", *NAMES[1:-1], "cat"], "", "11 labels under the header 'species'",
            id="one-short-under-a-header",
        ),
        pytest.param(
            ["digit", *map(str, range(11))], "", "11 labels under the header 'digit'",
            id="one-short-words-over-numbers",
        ),
        pytest.param(["label", *NAMES, "ant"], "", "13 labels under the header", id="one-too-many"),
        pytest.param(
            ["species", "rare", *NAMES[1:]], "", "if 'species' is a header, say so with --label-ke",
            id="one-too-many-and-no-telling",
        ),
        pytest.param(
            ["y", *["y", "n"] * 6], "", "if 'y' is a header, say so with --label-key 'y'",
            id="y-over-y-and-n",
        ),
        pytest.param(NAMES[:-1], "", "holds 11 labels for 12 rows", id="short"),
        pytest.param(
            ["label", *NAMES[:4], "", *NAMES[4:]], "",
            "holds 13 labels under the header 'label' for 12 rows (line 6 is blank)",
            id="a-blank-line-too-many",
        ),
        pytest.param(["label", *NAMES[1:]], "label", "11 labels under the header", id="named"),
        pytest.param(["label", *NAMES], "lable", "has no column 'lable'; its first line is 'label'",
                     id="another-is-named"),
        pytest.param(["label", "ant, red", *NAMES[1:]], "",
                     "line 2 has 2 columns, the first has one; put quotes", id="bare-comma"),
    ],
)  # fmt: skip
def test_a_count_that_does_not_fit_is_refused(
    tmp_path: Path, lines: list[str], key: str, words: str
) -> None:
    with pytest.raises(DataError, match=re.escape(words)) as caught:
        read(tmp_path, *lines, key=key)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["y.csv", "y.txt"])
def test_a_blank_line_is_a_label_that_is_missing_unless_it_ends_the_file(
    tmp_path: Path, name: str
) -> None:
    cut = [*NAMES[:5], "", *NAMES[6:]]
    assert read(tmp_path, "label", *cut, name=name).values == cut
    assert read(tmp_path, "label", *NAMES, "", "", name=name).values == NAMES
    assert read(tmp_path, *NAMES[:-1], "", name=name).values == [*NAMES[:-1], ""]


def test_quoted_values_may_hold_commas_and_line_ends(tmp_path: Path) -> None:
    (tmp_path / "y.csv").write_text('label\n"ant, red"\n"bee\nhive"\n')
    assert read_column(tmp_path / "y.csv", rows=2).values == ["ant, red", "bee\nhive"]


def test_ids_are_called_ids_and_told_nothing_of_labels(tmp_path: Path) -> None:
    path = written(tmp_path / "ids.csv", "id", *map(str, range(ROWS)))
    assert read_column(path, rows=ROWS, what="ids").values == [str(row) for row in range(ROWS)]
    with pytest.raises(DataError, match="holds 13 ids for 12 rows") as caught:
        read_column(written(path, *map(str, range(13))), rows=ROWS, what="ids")
    assert "label" not in str(caught.value)


@given(
    labels=st.lists(st.sampled_from(["a", "b", "label", "y", "3", "x y"]), min_size=1, max_size=9),
    header=st.sampled_from(["", "label", "kind", "y", "3"]),
)
def test_what_is_read_is_what_stands_in_the_last_lines(
    tmp_path_factory: pytest.TempPathFactory, labels: list[str], header: str
) -> None:
    """Whatever is taken for a header: row i is the label of line i, or the file is refused."""
    lines = [header, *labels] if header else labels
    try:
        found = read(tmp_path_factory.mktemp("y"), *lines, rows=len(labels))
    except DataError:
        return
    assert found.values == labels


@pytest.mark.parametrize("name", ["y.npy", "y.json"])
def test_a_key_is_refused_where_there_is_nothing_to_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if path.suffix == ".npy":
        np.save(path, np.array(NAMES))
    else:
        path.write_text(json.dumps(NAMES))
    words = f"{name} holds one array without a name: --label-key does not apply"
    with pytest.raises(DataError, match=words):
        read_column(path, key="foo", rows=ROWS)
    assert list(read_column(path, rows=ROWS).values) == NAMES
