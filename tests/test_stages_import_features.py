"""Feature files in, stores out: every format, every label file, every refusal."""

import errno
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from distill.datasets import BadInputError, DataError, find_labels, open_rows
from distill.datasets.features import readable
from distill.stages import import_features as module
from stores import StoreMismatchError, verify_store
from tests.features_examples import (
    DIM,
    EXPECTED,
    FEATURES,
    LABELS,
    NAMES,
    ROWS,
    bring,
    names_file,
    npy,
    rows_of,
    stores,
)


def _npz(root: Path, save: Any) -> Path:
    save(root / "x.npz", features=FEATURES, labels=np.array(NAMES)[LABELS], other=FEATURES[:3])
    return root / "x.npz"


def _safetensors(root: Path) -> Path:
    from safetensors.numpy import save_file

    save_file({"embeddings": FEATURES}, root / "x.safetensors")
    return root / "x.safetensors"


def _parquet_list(root: Path) -> Path:
    columns = {"emb": list(FEATURES), "label": [NAMES[label] for label in LABELS]}
    parquet.write_table(pa.table(columns), root / "x.parquet", row_group_size=17)
    return root / "x.parquet"


def _parquet_numbers(root: Path) -> Path:
    columns: dict[str, Any] = {f"f{at}": FEATURES[:, at] for at in range(DIM)}
    columns |= {"id": list(range(ROWS)), "class": [NAMES[label] for label in LABELS]}
    parquet.write_table(pa.table(columns), root / "x.parquet", row_group_size=17)
    return root / "x.parquet"


@pytest.mark.parametrize(
    ("make", "own_labels"),
    [
        pytest.param(npy, False, id="npy"),
        pytest.param(lambda root: npy(root, "F"), False, id="npy-by-columns"),
        pytest.param(lambda root: npy(root, dtype=">f8"), False, id="npy-big-endian-double"),
        pytest.param(lambda root: _npz(root, np.savez), True, id="npz"),
        pytest.param(lambda root: _npz(root, np.savez_compressed), True, id="npz-compressed"),
        pytest.param(_safetensors, False, id="safetensors"),
        pytest.param(_parquet_list, True, id="parquet-list"),
        pytest.param(_parquet_numbers, True, id="parquet-numbers"),
    ],
)
def test_every_format_arrives_row_for_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Any, own_labels: bool
) -> None:
    monkeypatch.setattr(module, "BLOCK_BYTES", 10 * 8 * DIM)  # 10 rows a block: 101 do not divide
    monkeypatch.setattr(module, "default_chunk_rows", lambda *_: 16)
    labels = None if own_labels else names_file(tmp_path)
    found = bring(tmp_path, make(tmp_path), labels)
    assert [(split.split, split.rows) for split in found.splits] == [
        ("train", 68),
        ("validation", 12),
        ("test", 21),
    ]
    assert (found.rows_written, found.dim, found.logits) == (ROWS, DIM, 0)
    assert rows_of(stores(tmp_path)) == EXPECTED
    assert not any(verify_store(store.path) for store in stores(tmp_path).values())


def test_bfloat16_is_widened_exactly(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    rounded = torch.from_numpy(FEATURES).bfloat16()
    save_file({"x": rounded}, tmp_path / "x.safetensors")
    bring(tmp_path, tmp_path / "x.safetensors", names_file(tmp_path))
    exact = rounded.float().numpy()
    for store in stores(tmp_path).values():
        np.testing.assert_array_equal(store.features(), exact[store.ids()])


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_half_precision_arrives_as_it_is_and_its_infinity_is_found(
    tmp_path: Path, dtype: str
) -> None:
    half = FEATURES.astype(np.float16)
    half[0, 0] = 65504  # the largest there is
    np.save(tmp_path / "x.npy", half)
    bring(tmp_path, tmp_path / "x.npy", names_file(tmp_path), dtype=dtype)
    for store in stores(tmp_path).values():
        np.testing.assert_array_equal(store.features(), half[store.ids()])
    half[3, 2] = np.inf
    np.save(tmp_path / "x.npy", half)
    with pytest.raises(BadInputError, match="row 3 holds inf in column 2"):
        bring(tmp_path / "again", tmp_path / "x.npy", dtype=dtype)


def test_a_row_without_a_label_is_named(tmp_path: Path) -> None:
    names = [NAMES[label] for label in LABELS]
    (tmp_path / "y.csv").write_text("\n".join(["label", *names[:5], "", *names[6:]]))
    with pytest.raises(BadInputError, match=r"x\.npy: row 5: the label is missing; mend it"):
        bring(tmp_path, npy(tmp_path), tmp_path / "y.csv")
    bring(tmp_path, npy(tmp_path), tmp_path / "y.csv", skip=True)
    assert rows_of(stores(tmp_path)) == {row: EXPECTED[row] for row in EXPECTED if row != 5}


@pytest.mark.parametrize(
    "kind", ["npy", "csv", "tsv", "bare.csv", "json", "object.json", "parquet"]
)
def test_labels_come_in_many_files(tmp_path: Path, kind: str) -> None:
    names = [NAMES[label] for label in LABELS]
    path = tmp_path / f"y.{kind}"
    match kind:
        case "npy":
            np.save(path, np.array(names))
        case "csv":
            path.write_text(
                "n,label\n" + "".join(f"{at},{name}\n" for at, name in enumerate(names))
            )
        case "tsv":
            path.write_text("label\tn\n" + "".join(f"{name}\t1\n" for name in names))
        case "bare.csv":
            path.write_text("\n".join(names))
        case "json":
            path.write_text(json.dumps(names))
        case "object.json":
            path.write_text(json.dumps({"labels": names, "source": ["x"]}))
        case "parquet":
            parquet.write_table(pa.table({"label": pa.array(names).dictionary_encode()}), path)
    bring(tmp_path, npy(tmp_path), path)
    assert rows_of(stores(tmp_path)) == EXPECTED


def test_integers_are_named_by_the_given_classes_or_by_themselves(tmp_path: Path) -> None:
    np.save(tmp_path / "y.npy", LABELS.astype(np.int32))
    bring(tmp_path / "named", npy(tmp_path), tmp_path / "y.npy", classes=NAMES)
    assert rows_of(stores(tmp_path / "named")) == EXPECTED
    bring(tmp_path / "plain", npy(tmp_path), tmp_path / "y.npy")
    assert stores(tmp_path / "plain")["train"].spec.classes == ("0", "1", "2")


def test_ids_may_be_given(tmp_path: Path) -> None:
    ids = np.arange(ROWS) * 7 - 100
    np.save(tmp_path / "ids.npy", ids)
    bring(tmp_path, npy(tmp_path), names_file(tmp_path), ids=tmp_path / "ids.npy")
    assert rows_of(stores(tmp_path)) == {int(ids[row]): value for row, value in EXPECTED.items()}


def test_without_labels_the_stores_have_none_and_it_is_said(tmp_path: Path) -> None:
    found = bring(tmp_path, npy(tmp_path))
    assert not any(store.spec.labelled for store in stores(tmp_path).values())
    assert "no labels were given: heads cannot be trained on these features" in found.notes


def test_again_is_nothing_to_do_and_other_rows_are_refused(tmp_path: Path) -> None:
    labels = names_file(tmp_path)
    bring(tmp_path, npy(tmp_path), labels)
    assert bring(tmp_path, npy(tmp_path), labels).rows_written == 0
    changed = FEATURES.copy()
    changed[3, 3] += 1
    np.save(tmp_path / "x.npy", changed)
    with pytest.raises(StoreMismatchError):
        bring(tmp_path, tmp_path / "x.npy", labels)


def test_interrupted_and_resumed_is_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK_BYTES", 10 * 8 * DIM)
    monkeypatch.setattr(module, "default_chunk_rows", lambda *_: 8)
    features, labels = npy(tmp_path), names_file(tmp_path)
    bring(tmp_path / "whole", features, labels)
    complete = module._Filling._complete
    calls = []

    def dies(self: Any, begin: int, end: int) -> None:
        calls.append(begin)
        if len(calls) == 6:
            raise KeyboardInterrupt
        complete(self, begin, end)

    monkeypatch.setattr(module._Filling, "_complete", dies)
    with pytest.raises(KeyboardInterrupt):
        bring(tmp_path / "cut", features, labels)
    monkeypatch.setattr(module._Filling, "_complete", complete)
    again = bring(tmp_path / "cut", features, labels)
    assert 0 < again.rows_written < ROWS
    whole, cut = (
        {file.relative_to(root): file.read_bytes() for file in root.rglob("*") if file.is_file()}
        for root in (tmp_path / "whole", tmp_path / "cut")
    )
    assert whole == cut


@pytest.mark.parametrize(
    ("value", "dtype", "words"),
    [
        (np.nan, "float32", "x.npy: row 42 holds nan in column 5; mend it"),
        (-np.inf, "float32", "x.npy: row 42 holds -inf in column 5; mend it"),
        (7e4, "float16", "x.npy: row 42 holds 70000 in column 5, beyond the 65504 of float16"),
    ],
)
def test_a_row_that_no_store_can_hold_is_named_before_anything_is_written(
    tmp_path: Path, value: float, dtype: str, words: str
) -> None:
    broken = FEATURES.copy()
    broken[42, 5] = value
    np.save(tmp_path / "x.npy", broken)
    with pytest.raises(BadInputError, match=re.escape(words)):
        bring(tmp_path, tmp_path / "x.npy", names_file(tmp_path), dtype=dtype)
    assert not (tmp_path / "features.zarr").exists()
    found = bring(tmp_path, tmp_path / "x.npy", names_file(tmp_path), dtype=dtype, skip=True)
    assert sum(split.rows for split in found.splits) == ROWS - 1
    assert 42 not in rows_of(stores(tmp_path))
    assert "row 42" in found.splits[0].skipped[0]


@pytest.mark.parametrize(
    ("suffix", "beyond"),
    [
        *((suffix, beyond) for suffix in ("npy", "parquet") for beyond in (2**63, 2**64 - 1)),
        *((suffix, beyond) for suffix in ("csv", "json") for beyond in (2**64, -(2**63) - 1)),
        ("csv", 2**63),
        ("json", 2**63),
    ],
)
def test_an_id_of_more_than_64_bits_is_refused_by_its_row(
    tmp_path: Path, suffix: str, beyond: int
) -> None:
    """Neither wrapped nor rounded, whatever stands beside it."""
    file = tmp_path / f"ids.{suffix}"
    numbers = [*range(ROWS)]
    numbers[17] = beyond
    if suffix == "npy":
        np.save(file, np.array(numbers, dtype=np.uint64))
    elif suffix == "parquet":
        parquet.write_table(pa.table({"id": pa.array(numbers, pa.uint64())}), file)
    elif suffix == "json":
        file.write_text(json.dumps([*numbers[:40], -1, *numbers[41:]]))
    else:
        file.write_text("\n".join(["id", *map(str, numbers)]) + "\n")
    with pytest.raises(DataError, match=rf"row 17 holds the id {beyond}, beyond the 64 bits"):
        bring(tmp_path, npy(tmp_path), names_file(tmp_path), ids=file)
    assert not (tmp_path / "features.zarr").exists()


def test_the_first_and_last_of_64_bits_are_ids(tmp_path: Path) -> None:
    numbers = [-(2**63), *range(1, ROWS - 1), 2**63 - 1]
    (tmp_path / "ids.json").write_text(json.dumps(numbers))
    bring(tmp_path, npy(tmp_path), names_file(tmp_path), ids=tmp_path / "ids.json")
    found = np.concatenate([store.ids() for store in stores(tmp_path).values()])
    assert sorted(found.tolist()) == sorted(numbers)


def _bad(root: Path) -> list[tuple[Path, Path | None, dict[str, Any], str]]:
    x, y = npy(root), names_file(root)
    (root / "short.txt").write_text("a\nb\n")
    np.save(root / "flat.npy", np.arange(5.0))
    np.save(root / "words.npy", np.array([["a", "b"]]))
    np.save(root / "objects.npy", np.array([{"a": 1}, 2], dtype=object), allow_pickle=True)
    np.save(root / "onehot.npy", np.eye(3)[LABELS])
    np.save(root / "scores.npy", FEATURES[:, 0])
    np.save(root / "same.npy", np.zeros(ROWS, np.int64))
    (root / "cut.npy").write_bytes(x.read_bytes()[:-100])
    (root / "noise.npy").write_bytes(b"no array")
    (root / "noise.npz").write_bytes(b"no archive")
    (root / "noise.parquet").write_bytes(b"no parquet")
    (root / "noise.safetensors").write_bytes(b"no tensors at all, really")
    np.savez(root / "two.npz", a=FEATURES, b=FEATURES)
    (root / "x.pt").write_bytes(b"")
    ragged = pa.table({"emb": [[1.0, 2.0], [1.0]]})
    parquet.write_table(ragged, root / "ragged.parquet")
    np.save(root / "empty.npy", np.zeros((0, 4), np.float32))
    return [
        (root / "absent.npy", None, {}, "absent.npy is not there; features come from a file .npy"),
        (root, None, {}, "is a folder, not a file"),
        (root / "x.pt", None, {}, "features are read from .npy, .npz, .safetensors or .parquet"),
        (root / "flat.npy", None, {}, "flat.npy has shape (5,); features need (rows, dim)"),
        (root / "empty.npy", None, {}, "has shape (0, 4): there is nothing in it"),
        (root / "words.npy", None, {}, "holds <U1, not numbers"),
        (root / "objects.npy", None, {}, "holds pickled Python objects; save it as plain numbers"),
        (root / "cut.npy", None, {}, "cut.npy is cut off in or after row"),
        (root / "noise.npy", None, {}, "noise.npy is damaged or not a .npy file"),
        (root / "noise.npz", None, {}, "noise.npz"),
        (root / "noise.parquet", None, {}, "noise.parquet"),
        (root / "noise.safetensors", None, {}, "noise.safetensors"),
        (root / "ragged.parquet", None, {}, "'emb' holds 1 numbers at row 1 and 2 at row 0"),
        (root / "two.npz", None, {}, "holds several arrays: a, b; name the features with --key"),
        (root / "two.npz", None, {"key": "c"}, "two.npz has no 'c'; it has a, b"),
        (root / "two.npz", None, {"label_key": "lables"}, "two.npz has no 'lables'"),
        (x, root / "absent.txt", {}, "absent.txt is not there, or no file; labels come from"),
        (x, root / "short.txt", {}, "short.txt holds 2 labels for 101 rows; they must be of"),
        (x, root / "objects.npy", {}, "it holds pickled Python objects; save plain numbers"),
        (x, root / "onehot.npy", {}, "turn one-hot rows into indices with argmax"),
        (x, root / "scores.npy", {}, "regression targets are not supported"),
        (x, root / "same.npy", {}, "all of one class, '0'; at least two are needed"),
        (x, y, {"classes": ("ant", "bee", "cot")}, "none of the class names (ant, bee, cot)"),
        (x, y, {"ids": y}, "ids must be whole numbers, one a row"),
        (x, y, {"ids": root / "same.npy"}, "ids must all be different"),
        (x, None, {"label_key": "y"}, "holds features only: give the labels their own file"),
    ]


def _compressed(root: Path) -> Path:
    return _npz(root, np.savez_compressed)


def _by_columns(root: Path) -> Path:
    np.savez_compressed(root / "x.npz", features=np.asfortranarray(FEATURES))
    return root / "x.npz"


@pytest.mark.parametrize("make", [npy, _compressed, _by_columns, _safetensors, _parquet_list])
def test_a_flip_of_any_byte_is_no_matter_or_one_line(tmp_path: Path, make: Any) -> None:
    """While the file is opened, while labels in it are, and while rows are read."""
    file, told = make(tmp_path), set()
    sound = file.read_bytes()
    for place in [*range(0, len(sound), 29), *range(len(sound) - 400, len(sound), 3)]:
        changed = bytearray(sound)
        changed[place] ^= 1 << place % 8
        file.write_bytes(changed)
        try:
            find_labels(file, "")
            for _ in open_rows(file).blocks(10):
                pass
        except DataError as error:
            told.add(str(error))
    assert told
    assert all(str(file) in text and "\n" not in text for text in told)


def test_what_the_disk_says_is_not_taken_for_damage(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Input/output"), readable(tmp_path / "x.npz"):
        raise OSError(errno.EIO, "Input/output error")


def test_what_cannot_be_imported_is_refused_in_one_line(tmp_path: Path) -> None:
    for features, labels, options, words in _bad(tmp_path):
        with pytest.raises(DataError, match=re.escape(words)) as caught:
            bring(tmp_path, features, labels, **options)
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "features.zarr").exists()
