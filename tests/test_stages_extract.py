"""The extract stage: right rows in the right places, whatever was killed, damaged or changed."""

import dataclasses
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch

import distill.stages.extract as stage
from distill.config import ExtractConfig
from distill.datasets import BadInputError
from distill.findings import Extracted
from distill.progress import Silent
from stores import (
    InvalidRowsError,
    StoreDamagedError,
    StoreMismatchError,
    open_splits,
    open_store,
    verify_store,
)
from teachers import NetworkTeacher, Outputs
from tests.extract_examples import digests, held, image_teacher, images, run, text_teacher, texts

Special = TypeVar("Special", bound=NetworkTeacher)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of two batches, so that nothing fits into one."""
    monkeypatch.setattr(stage, "MOST_CHUNK_ROWS", 8)


def become(kind: type[Special], teacher: NetworkTeacher) -> Special:
    """The same teacher as one of a kind that does something more."""
    fields = dataclasses.fields(NetworkTeacher)
    return kind(**{field.name: getattr(teacher, field.name) for field in fields})


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Spy(NetworkTeacher):
    """A teacher that notes the batches it is given."""

    shapes: list[tuple[int, ...]] = dataclasses.field(default_factory=list)

    def embed(self, prepared: Any) -> Outputs:
        self.shapes.append(tuple(next(iter(prepared.values())).shape))
        return super().embed(prepared)


@pytest.mark.parametrize("kind", ["text", "image"])
def test_every_row_is_the_teachers_of_that_input(kind: str, tmp_path: Path) -> None:
    dataset = texts() if kind == "text" else images()
    teacher = text_teacher() if kind == "text" else image_teacher()
    finding = run(dataset, teacher, tmp_path / "features.zarr")
    found = open_splits(tmp_path / "features.zarr")
    assert {name: store.spec.rows for name, store in found.items()} == {
        "train": 37,
        "validation": 9,
        "test": 8,
    }
    for name, split in dataset.splits.items():
        store = found[name]
        alone = [teacher.embed(teacher.prepare([entry])) for entry in split.inputs]
        np.testing.assert_allclose(
            store.features(), np.concatenate([o.features for o in alone]), rtol=1e-5, atol=1e-6
        )
        np.testing.assert_array_equal(store.ids(), split.ids)
        np.testing.assert_array_equal(store.labels(), split.labels)
        if kind == "text":
            logits = np.concatenate([o.logits for o in alone if o.logits is not None])
            np.testing.assert_allclose(store.logits(), logits, rtol=1e-5, atol=1e-6)
    assert finding.rows_written == 54
    assert [s.rows for s in finding.splits] == [37, 9, 8]
    assert finding.logits == (2 if kind == "text" else 0)
    assert finding.bytes == sum(
        file.stat().st_size
        for file in (tmp_path / "features.zarr").glob("*/**/*")
        if file.is_file()
    )
    assert Extracted.from_json(finding.to_json()) == finding


def test_a_store_says_what_made_it(tmp_path: Path) -> None:
    teacher = text_teacher()
    extracted: dict[str, Any] = {
        "settings": ExtractConfig(batch_size=4),
        "workers": 0,
        "progress": Silent(),
    }
    stage.extract(texts(), teacher, tmp_path / "f.zarr", made_by={"extra": 1}, **extracted)
    spec = open_store(tmp_path / "f.zarr" / "train").spec
    made_by = dict(spec.made_by)
    versions = made_by.pop("versions")
    assert made_by == {
        "stage": "extract",
        "teacher": "letters",
        "weights": teacher.card.weights,
        "preprocessing": {"alphabet": "ascii"},
        "layer": "",
        "pooling": "mean",
        "options": {},
        "dataset": "texts",
        "fingerprint": "sha256:1",
        "split": "train",
        "extra": 1,
    }
    assert spec.classes == ("no", "yes")
    assert {"torch", "numpy", "timm", "transformers", "python"} <= set(versions)
    assert versions["computed"] == "float32 on cpu"


def test_batches_are_sorted_by_length_and_never_span_chunks(tmp_path: Path) -> None:
    spy = become(Spy, text_teacher())
    run(texts(), spy, tmp_path / "f.zarr")
    sizes = [rows for rows, _ in spy.shapes]
    lengths = [length for _, length in spy.shapes]
    assert sizes == [4, 4] * 4 + [4, 1] + [4, 4, 1] + [4, 4]
    for first in (0, 2, 4, 6, 8, 10, 13):
        assert lengths[first] <= lengths[first + 1]


@pytest.mark.parametrize("kind", ["text", "image"])
def test_workers_change_no_byte(kind: str, tmp_path: Path) -> None:
    dataset, teacher = (texts(), text_teacher()) if kind == "text" else (images(), image_teacher())
    for workers in (0, 2):
        run(dataset, teacher, tmp_path / str(workers) / "f.zarr", workers=workers)
    assert digests(tmp_path / "0") == digests(tmp_path / "2")


def test_what_is_there_is_not_made_again(tmp_path: Path) -> None:
    run(texts(), text_teacher(), tmp_path / "f.zarr")
    before = digests(tmp_path)
    spy = become(Spy, text_teacher())
    finding = run(texts(), spy, tmp_path / "f.zarr")
    assert spy.shapes == []
    assert finding.rows_written == 0
    assert finding.rows_per_second == 0
    assert [split.rows for split in finding.splits] == [37, 9, 8]
    assert digests(tmp_path) == before


@pytest.mark.parametrize(("kind", "workers", "kills"), [("text", 0, 2), ("image", 2, 1)])
def test_a_killed_extraction_goes_on_to_the_same_bytes(
    kind: str, workers: int, kills: int, tmp_path: Path
) -> None:
    """``kill -9`` at random moments, again and again, until one run gets through."""
    command = [sys.executable, "-m", "tests.extract_examples"]
    arguments = [kind, str(workers)]
    subprocess.run([*command, str(tmp_path / "whole" / "f.zarr"), *arguments], check=True)
    rng, killed = random.Random(7), 0
    for attempt in range(12):
        process = subprocess.Popen(
            [*command, str(tmp_path / "killed" / "f.zarr"), *arguments],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert process.stdout is not None
        for _ in range(rng.randint(2, 6) if attempt < kills else 1000):
            if not process.stdout.readline():
                break
        else:
            time.sleep(rng.uniform(0, 0.03))
            os.killpg(process.pid, signal.SIGKILL)
            killed += 1
        process.stdout.close()
        if process.wait() == 0:
            break
    assert killed == kills
    assert digests(tmp_path / "killed") == digests(tmp_path / "whole")


@pytest.mark.parametrize("batch", [1, 3, 4, 100])
@pytest.mark.parametrize("workers", [0, 2])
def test_another_batch_size_goes_on_with_what_was_begun(
    batch: int, workers: int, tmp_path: Path
) -> None:
    """As after running out of memory; a batch need not divide a chunk, nor fit into one."""
    dataset, root = texts(), tmp_path / "f.zarr"
    entries = [*dataset.splits["train"].inputs]
    entries[21] = BadInputError("texts.csv: row 21 is not a text")
    train = dataclasses.replace(dataset.splits["train"], inputs=held(entries))
    begun = dataclasses.replace(dataset, splits={**dataset.splits, "train": train})
    with pytest.raises(BadInputError, match="row 21"):
        run(begun, text_teacher(), root, batch_size=4)
    finding = run(dataset, text_teacher(), root, batch_size=batch, workers=workers)
    assert finding.rows_written == 54 - 16  # two chunks of 8 were there
    whole = tmp_path / "whole.zarr"
    run(dataset, text_teacher(), whole, batch_size=4)
    for name, store in open_splits(root).items():
        expected = open_store(whole / name)
        if name == "train":
            assert store.spec == expected.spec
        np.testing.assert_array_equal(store.ids(), expected.ids())
        np.testing.assert_allclose(store.features(), expected.features(), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(store.logits(), expected.logits(), rtol=1e-5, atol=1e-6)


def test_another_batch_size_leaves_what_is_finished(tmp_path: Path) -> None:
    run(texts(), text_teacher(), tmp_path / "f.zarr", batch_size=8)
    before = digests(tmp_path)
    assert run(texts(), text_teacher(), tmp_path / "f.zarr", batch_size=3).rows_written == 0
    assert digests(tmp_path) == before
    with pytest.raises(StoreMismatchError, match=r"something else: made_by\.weights is"):
        run(texts(), text_teacher(seed=1), tmp_path / "f.zarr", batch_size=3)


def test_repair_redoes_just_the_damaged_chunk(tmp_path: Path) -> None:
    root = tmp_path / "f.zarr"
    run(texts(), text_teacher(), root)
    before = digests(tmp_path)
    file = root / "train" / "features" / "c.2.0"
    data = bytearray(file.read_bytes())
    data[5] ^= 1
    file.write_bytes(bytes(data))
    assert [damage.chunk for damage in verify_store(root / "train")] == [2]
    assert run(texts(), text_teacher(), root).rows_written == 0  # it is not looked for unasked
    finding = run(texts(), text_teacher(), root, repair=True)
    assert finding.rows_written == 8
    assert digests(tmp_path) == before


def test_repair_mends_a_damaged_manifest_without_new_rows(tmp_path: Path) -> None:
    root = tmp_path / "f.zarr"
    run(texts(), text_teacher(), root)
    before = digests(tmp_path)
    manifest = root / "train" / "zarr.json"
    data = bytearray(manifest.read_bytes())
    data[30] ^= 1
    manifest.write_bytes(bytes(data))
    with pytest.raises(StoreDamagedError, match=r"train/zarr\.json is damaged"):
        run(texts(), text_teacher(), root)
    assert run(texts(), text_teacher(), root, repair=True).rows_written == 0
    assert digests(tmp_path) == before


CHANGES: dict[str, Any] = {
    "weights": lambda: (texts(), text_teacher(seed=1)),
    "fingerprint": lambda: (texts(fingerprint="sha256:2"), text_teacher()),
    "dataset": lambda: (texts(name="others"), text_teacher()),
    "preprocessing.alphabet": lambda: (texts(), _with_card(preprocessing={"alphabet": "latin"})),
    "layer": lambda: (texts(), _with_card(layer="table")),
    "teacher": lambda: (texts(), _with_card(name="signs")),
}


def _with_card(**changes: Any) -> NetworkTeacher:
    teacher = text_teacher()
    return dataclasses.replace(teacher, card=dataclasses.replace(teacher.card, **changes))


@pytest.mark.parametrize("what", CHANGES)
def test_what_another_teacher_or_data_set_made_is_refused(what: str, tmp_path: Path) -> None:
    run(texts(), text_teacher(), tmp_path / "f.zarr")
    before = digests(tmp_path)
    dataset, teacher = CHANGES[what]()
    with pytest.raises(StoreMismatchError, match=f"made_by.{what} is .* there and .* here"):
        run(dataset, teacher, tmp_path / "f.zarr")
    assert digests(tmp_path) == before


@pytest.mark.parametrize("workers", [0, 2])
def test_an_input_that_cannot_be_read_is_told_in_one_line_and_nothing_is_lost(
    workers: int, tmp_path: Path
) -> None:
    whole = images()
    split = whole.splits["train"]
    entries = list(split.inputs)
    entries[21] = BadInputError("pictures.parquet: row 21 is not an image")
    broken = dataclasses.replace(split, inputs=held(entries))
    dataset = dataclasses.replace(whole, splits={**whole.splits, "train": broken})
    with pytest.raises(BadInputError) as caught:
        run(dataset, image_teacher(), tmp_path / "f.zarr", workers=workers)
    assert str(caught.value).startswith("pictures.parquet: row 21 is not an image; mend it")
    finding = run(whole, image_teacher(), tmp_path / "f.zarr")
    assert finding.rows_written == 54 - 16  # two whole chunks were there
    run(whole, image_teacher(), tmp_path / "whole" / "f.zarr")
    assert digests(tmp_path / "f.zarr") == digests(tmp_path / "whole" / "f.zarr")


class Explodes(NetworkTeacher):
    """Gives NaN for every text with a "z"."""

    def embed(self, prepared: Any) -> Outputs:
        outputs = super().embed(prepared)
        bad = (prepared["input_ids"] == ord("z") - 31).any(dim=1).numpy()
        features = np.where(bad[:, None], np.float32("nan"), outputs.features)
        return dataclasses.replace(outputs, features=features)


def test_features_that_are_no_numbers_name_the_example(tmp_path: Path) -> None:
    dataset = texts()
    split = dataset.splits["train"]
    entries = [*split.inputs]
    entries[10] = "zebra"
    changed = dataclasses.replace(split, inputs=held(entries))
    dataset = dataclasses.replace(dataset, splits={"train": changed})
    with pytest.raises(InvalidRowsError, match=r"example 990 \(row 10\): features hold nan"):
        run(dataset, become(Explodes, text_teacher()), tmp_path / "f.zarr")


def test_float16_stores_hold_the_same_rows_rounded(tmp_path: Path) -> None:
    run(texts(), text_teacher(), tmp_path / "full.zarr")
    finding = run(texts(), text_teacher(), tmp_path / "half.zarr", dtype="float16")
    full = open_store(tmp_path / "full.zarr" / "train").features()
    half = open_store(tmp_path / "half.zarr" / "train").features()
    assert half.dtype == np.float16
    assert finding.dtype == "float16"
    np.testing.assert_array_equal(full.astype(np.float16), half)


def test_data_without_labels_is_extracted_without_labels(tmp_path: Path) -> None:
    run(texts(labelled=False), text_teacher(), tmp_path / "f.zarr")
    assert not open_store(tmp_path / "f.zarr" / "train").spec.labelled


def test_chunks_hold_whole_batches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(stage, "MOST_CHUNK_ROWS", 24)  # for 37 rows
    for batch, expected in ((8, 24), (10, 20), (3, 21), (2000, 2000)):
        root = tmp_path / f"{batch}.zarr"
        run(texts(), text_teacher(), root, batch_size=batch)
        assert open_store(root / "train").spec.chunk_rows == expected


def test_a_batch_is_a_function_of_its_chunk_alone(tmp_path: Path) -> None:
    """Whether a row's padding comes from rows of another chunk would show in the prepared shape."""
    spy = become(Spy, text_teacher())
    run(texts(), spy, tmp_path / "a.zarr")
    whole = list(spy.shapes)
    (tmp_path / "a.zarr" / "train" / "features" / "c.1.0").unlink()
    spy.shapes.clear()
    run(texts(), spy, tmp_path / "a.zarr", repair=True)
    assert spy.shapes == whole[2:4]


def test_no_worker_is_left_behind(tmp_path: Path) -> None:
    import multiprocessing

    run(images(), image_teacher(), tmp_path / "f.zarr", workers=2)
    assert multiprocessing.active_children() == []
    assert torch.utils.data.get_worker_info() is None


MEMORY = """
import sys
from pathlib import Path
import numpy as np, torch
from torch import nn
from distill.datasets import Dataset, Inputs, Split
from teachers import make_teacher
from tests.extract_examples import Made, run

rows, peak = int(sys.argv[2]), 0

class Wide(nn.Module):
    def forward(self, pixels):
        global peak
        told = Path("/proc/self/status").read_text().split("RssAnon:")[1].split()[0]
        peak = max(peak, int(told))
        return pixels.flatten(1).repeat(1, 10)

def stack(inputs):
    small = np.stack([np.asarray(image.resize((8, 8))) for image in inputs])
    return {"pixel_values": torch.from_numpy(small).float()}

split = Split(name="train", ids=np.arange(rows), labels=np.zeros(rows, np.int64),
              inputs=Inputs(Made(rows), np.arange(rows)))
data = Dataset(name="made", modality="image", classes=("a",), splits={"train": split},
               fingerprint="")
run(data, make_teacher(Wide(), name="wide", prepare=stack), Path(sys.argv[1]), batch_size=256)
print(peak // 1024)
"""


@pytest.mark.slow
def test_ten_times_the_rows_take_the_same_memory(tmp_path: Path) -> None:
    """Peak anonymous memory in MB: the rows alone are 77 MB here and 770 MB there."""
    peaks = []
    for rows in (10_000, 100_000):
        command = [sys.executable, "-c", MEMORY, str(tmp_path / f"{rows}.zarr"), str(rows)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        peaks.append(int(done.stdout))
    assert abs(peaks[1] - peaks[0]) < 50, peaks
