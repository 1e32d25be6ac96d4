"""Killed at any moment and begun again, a store ends as the bytes of a run never killed."""

import errno
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stores import (
    IncompleteStoreError,
    MissingStoreError,
    StoreLockedError,
    create_store,
    open_store,
    verify_store,
)
from stores.locking import lock_file
from tests.stores_examples import big_spec, digests, fill, rows_of, small_spec, write

REPOSITORY = Path(__file__).resolve().parents[1]
STEPS = {"open", "os.rename", "os.remove", "os.mkdir"}  # what Python announces before it does it


def start_writer(path: Path, rows: int, dim: int) -> "subprocess.Popen[str]":
    """A process that makes a store, stopped just before it begins."""
    command = [sys.executable, "-m", "tests.stores_examples", str(path), str(rows), str(dim)]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def finish(process: "subprocess.Popen[str]") -> int:
    process.communicate()
    return process.returncode


def kill_until_done(tmp_path: Path, *, kills: int, seed: int) -> int:
    """How many of the kills struck a process at work; the store must end as if none had."""
    chunks, dim = 4 * kills + 2, 256
    rows = (chunks - 1) * 1024 + 17
    clean, torn = (tmp_path / side / "features.zarr" / "train" for side in ("clean", "torn"))
    assert finish(start_writer(clean, rows, dim)) == 0
    rng, struck = random.Random(seed), 0
    for _ in range(kills):
        process = start_writer(torn, rows, dim)
        assert process.stdout is not None
        for _ in range(rng.randrange(4)):
            process.stdout.readline()
        time.sleep(rng.uniform(0, 0.006))
        process.kill()
        struck += finish(process) == -signal.SIGKILL
    assert finish(start_writer(torn, rows, dim)) == 0
    expected = digests(clean.parents[1])
    assert digests(torn.parents[1]) == expected
    assert len(expected) == 4 * (chunks + 1) + 2 + 1  # chunks, documents, groups, the lock
    assert verify_store(torn.parent) == []
    return struck


def test_a_writer_killed_at_random_moments_leaves_no_trace(tmp_path: Path) -> None:
    assert kill_until_done(tmp_path, kills=10, seed=0) >= 5


@pytest.mark.slow
def test_a_writer_killed_a_hundred_times_leaves_no_trace(tmp_path: Path) -> None:
    assert kill_until_done(tmp_path, kills=100, seed=1) >= 50


def die_before_step(path: Path, step: int) -> bool:
    """Make a store in a forked process that kills itself before the given file operation.

    Whether the process died; it lives when the store takes fewer operations than that.
    """
    child = os.fork()
    if child == 0:
        seen = 0

        def count(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal seen
            if event in STEPS and str(path.parent.parent) in str(arguments[0]):
                seen += 1
                if seen > step:
                    os.kill(os.getpid(), signal.SIGKILL)

        try:
            sys.addaudithook(count)
            fill(path, small_spec())
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def is_finished(path: Path) -> bool:
    try:
        return open_store(path).spec.rows == 10
    except (MissingStoreError, IncompleteStoreError):
        return False


def test_dying_before_any_one_file_operation_leaves_no_trace(tmp_path: Path) -> None:
    expected = digests(fill(tmp_path / "clean" / "features.zarr" / "train", small_spec()).parent)
    step, unfinished, died = 0, 0, True
    while died:
        path = tmp_path / str(step) / "features.zarr" / "train"
        died = die_before_step(path, step)
        if not is_finished(path):
            unfinished += 1
        elif died:  # by its last write, or while tidying up after it
            assert digests(path.parent) == expected
        assert digests(fill(path, small_spec()).parent) == expected
        beside = {entry.name for entry in path.parent.parent.iterdir()}
        assert beside == {"features.zarr", ".features.zarr-train.lock"}
        step += 1
    # each of 3 chunks in 4 columns, 4 documents and the manifest: opened and renamed at least
    assert unfinished > (3 * 4 + 4 + 1) * 2
    assert step - unfinished < 4


def test_dying_again_and_again_gets_there(tmp_path: Path) -> None:
    expected = digests(fill(tmp_path / "clean" / "features.zarr" / "train", small_spec()).parent)
    path = tmp_path / "torn" / "features.zarr" / "train"
    rng = random.Random(0)
    deaths = 0
    while die_before_step(path, rng.randrange(12, 40)):
        deaths += 1
        assert deaths < 50
    assert deaths > 1
    assert digests(path.parent) == expected


def test_work_that_was_done_is_not_done_again(tmp_path: Path) -> None:
    path = tmp_path / "train"
    with create_store(path, small_spec()) as writer:
        write(writer, 1)
    kept = (path / "features/c.1.0").stat().st_mtime_ns
    with create_store(path, small_spec()) as writer:
        assert writer.pending() == [0, 2]
        write(writer, 0)
        write(writer, 2)
    assert (path / "features/c.1.0").stat().st_mtime_ns == kept
    assert open_store(path).ids()[4] == 4 * 7 - 3


@pytest.mark.parametrize("name", ["features/c.1.0", "ids/c.1", "labels/c.1", "logits/c.1.0"])
@pytest.mark.parametrize("harm", ["flip", "cut", "delete"])
def test_a_chunk_that_does_not_pass_on_resume_is_made_again(
    tmp_path: Path, name: str, harm: str
) -> None:
    expected = digests(fill(tmp_path / "clean", small_spec()))
    path = tmp_path / "torn"
    with create_store(path, small_spec()) as writer:
        write(writer, 0)
        write(writer, 1)
    file = path / name
    data = bytearray(file.read_bytes())
    data[5] ^= 16
    if harm == "delete":
        file.unlink()
    else:
        file.write_bytes(data if harm == "flip" else data[:-2])
    with create_store(path, small_spec()) as writer:
        assert writer.pending() == [1, 2]
    assert digests(fill(path, small_spec())) == expected


def test_a_unit_being_made_again_is_not_there_until_it_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "train"
    with create_store(path, small_spec()) as writer:
        write(writer, 1)
    (path / "labels/c.1").unlink()
    with create_store(path, small_spec()) as writer:
        monkeypatch.setattr("stores.writer.write_chunk", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            write(writer, 1)
    assert not (path / "features/c.1.0").exists()  # old features beside new labels would pass


def test_left_over_scratch_files_and_damaged_documents_are_put_right(tmp_path: Path) -> None:
    expected = digests(fill(tmp_path / "clean" / "features.zarr" / "train", small_spec()).parent)
    path = tmp_path / "torn" / "features.zarr" / "train"
    with create_store(path, small_spec()) as writer:
        write(writer, 0)
    for name in ("chunk", "root", "document", "repair"):
        (path / f"{name}.partial").write_bytes(b"half of")
    (path / "labels" / "zarr.json").write_text("{}")
    (path / "ids" / "zarr.json").unlink()
    (path.parent / "zarr.json").unlink()
    assert digests(fill(path, small_spec()).parent) == expected


def test_a_full_disk_names_the_file_and_leaves_the_unit_pending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "train"
    with create_store(path, small_spec()) as writer:
        write(writer, 0)

        def full(self: Path, target: Path) -> Path:
            if "features/c.1" in str(target):
                raise OSError(errno.ENOSPC, "No space left on device")
            os.replace(self, target)
            return target

        monkeypatch.setattr(Path, "replace", full)
        with pytest.raises(OSError, match=re.escape(f"device: '{path}/features.partial'")):
            write(writer, 1)
        monkeypatch.undo()
        assert writer.pending() == [1, 2]
        assert not list(path.rglob("*.partial"))
        write(writer, 1)
        write(writer, 2)
    assert digests(path) == digests(fill(tmp_path / "clean", small_spec()))


def test_the_second_writer_of_a_store_is_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "features.zarr" / "train"
    process = start_writer(path, 400_000, 256)
    try:
        assert process.stdout is not None
        process.stdout.readline()  # its first chunk is there: the lock is held
        began = time.perf_counter()
        with pytest.raises(StoreLockedError, match=r"another process is writing the store at"):
            create_store(path, small_spec())
        assert time.perf_counter() - began < 0.5
        with create_store(path.parent / "test", small_spec()):
            pass  # another split is another store
    finally:
        process.kill()
        finish(process)
    with create_store(path, big_spec(400_000, 256)) as writer:  # the kill freed the lock
        assert writer.pending()


def test_the_lock_lies_beside_the_store_and_goes_with_its_writer(tmp_path: Path) -> None:
    path = tmp_path / "features.zarr" / "train"
    assert lock_file(path) == tmp_path / ".features.zarr-train.lock"
    writer = create_store(path, small_spec())
    with pytest.raises(StoreLockedError):
        create_store(path, small_spec())
    writer.close()
    fill(path, small_spec())
    with pytest.raises(ValueError, match="made by"):
        create_store(path, small_spec(dim=4))
    fill(path, small_spec())  # the refusal freed it too


MEASURE = """
import sys
from pathlib import Path
import numpy as np
from stores import create_store, open_store, shuffled_batches, verify_store
from tests.stores_examples import big_spec, write

def anonymous():
    line = next(l for l in Path("/proc/self/status").read_text().splitlines() if "RssAnon" in l)
    return int(line.split()[1]) // 1024

def work():
    with create_store(path, big_spec(rows, 512)) as writer:
        for index in writer.pending():
            write(writer, index)
            yield
    with create_store(path, big_spec(rows, 512)):
        yield
    store = open_store(path)
    for chunk in store.chunks(("features", "labels")):
        yield
    for batch in shuffled_batches(store, 256, seed=0, epoch=0):
        yield
    assert verify_store(path) == []
    yield

path, rows = Path(sys.argv[1]), int(sys.argv[2])
print(max(anonymous() for _ in work()))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads RssAnon from /proc")
def test_ten_times_the_rows_take_the_same_memory(tmp_path: Path) -> None:
    peaks = []
    for rows in (10_000, 100_000):  # 20 MB and 200 MB of features
        command = [sys.executable, "-c", MEASURE, str(tmp_path / str(rows)), str(rows)]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout))
    assert peaks[1] - peaks[0] < 50, peaks


def test_rows_given_to_a_writer_may_be_changed_afterwards(tmp_path: Path) -> None:
    spec = small_spec()
    with create_store(tmp_path / "train", spec) as writer:
        for index in writer.pending():
            rows = rows_of(spec, *spec.rows_of(index))
            writer.write(index, **rows)
            for values in rows.values():
                values[...] = 0
    assert digests(tmp_path / "train") == digests(fill(tmp_path / "clean", spec))
