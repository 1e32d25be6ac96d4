"""Is every byte of a store sound? And how a damaged one is made whole again.

``verify_store`` reads every file and compares it with the manifest; ``repair_store`` takes the
damaged files away, so that the stage that made the store redoes just their chunks.
"""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from stores.errors import IncompleteStoreError, MissingStoreError, StoreDamagedError, StoreError
from stores.files import BadFileError, empty_chunk, read_known_chunk, write_whole
from stores.layout import (
    GROUP_FILE,
    ROOT_SUFFIX,
    SCRATCH_SUFFIX,
    Manifest,
    array_document,
    array_file,
    chunk_file,
    read_manifest,
    root_document,
    store_files,
)
from stores.locking import hold
from stores.reader import split_folders


@dataclass(frozen=True)
class Damage:
    """One file that is not as it was written, relative to the path that was verified.

    ``chunk`` and ``rows`` (start, stop) are those the file holds, or None where it holds none.
    """

    file: str
    reason: str
    chunk: int | None = None
    rows: tuple[int, int] | None = None

    def __str__(self) -> str:
        place = "" if self.rows is None else f" (rows {self.rows[0]} to {self.rows[1] - 1})"
        return f"{self.file} {self.reason}{place}"


@dataclass(frozen=True)
class Verification:
    """What reading every file of the finished stores at a path found.

    ``stores`` and ``files`` count what was read. ``unfinished`` are stores that were begun only:
    they hold no data yet, so nothing of them is damage.
    """

    stores: int
    files: int
    damages: tuple[Damage, ...]
    unfinished: tuple[Path, ...]


def verify_store(path: Path) -> list[Damage]:
    """Every file of a store, or of all stores in a ``*.zarr`` folder, that is not as written.

    Reads everything once. ``MissingStoreError`` where there is nothing to verify,
    ``IncompleteStoreError`` where a store was only begun and all that is finished is sound.
    """
    found = verify_splits(path)
    if found.unfinished and not found.damages:
        raise IncompleteStoreError(
            f"the store at {found.unfinished[0]} was begun but never finished: run the stage that "
            "makes it again"
        )
    return list(found.damages)


def verify_splits(path: Path) -> Verification:
    """Verify a store, or all stores in a ``*.zarr`` folder, whichever of them are finished.

    ``MissingStoreError`` where there is none.
    """
    path = Path(path)
    return _verify_root(path) if path.suffix == ROOT_SUFFIX else _verify_group(path)


def repair_store(path: Path, damages: Sequence[Damage]) -> None:
    """Take away what ``verify_store`` found, so that ``create_store`` has just that pending.

    Without damages nothing is touched. Foreign files are deleted; sound chunks are kept.
    """
    path = Path(path)
    if path.suffix == ROOT_SUFFIX:
        _repair_root(path, damages)
        return
    if not damages:
        return
    lock = hold(path)
    try:
        _repair(path, damages)
    finally:
        lock.release()


def _damages(path: Path, manifest: Manifest) -> Iterator[Damage]:
    spec = manifest.spec
    yield from _strangers(path, store_files(spec))
    for name, column in spec.columns.items():
        reason = _reason_of_document(path / array_file(column), array_document(column, spec))
        if reason:
            yield Damage(array_file(column), reason)
        room = empty_chunk(column, spec.chunk_rows)
        for index, checksum in enumerate(manifest.checksums[name]):
            file = chunk_file(column, index)
            try:
                read_known_chunk(path / file, room, checksum)
            except BadFileError as error:
                yield Damage(file, str(error), index, spec.rows_of(index))


def _reason_of_document(file: Path, expected: bytes) -> str:
    """Say what is wrong with a ``zarr.json``, or nothing."""
    if not file.is_file():
        return "is not a file" if file.exists() else "is missing"
    return "" if file.read_bytes() == expected else "holds other bytes than were written"


def _strangers(folder: Path, known: set[str]) -> Iterator[Damage]:
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder).as_posix()
        if name not in known and (file.is_symlink() or not file.is_dir()):
            yield Damage(name, "is not part of the store")


def _verify_group(path: Path) -> Verification:
    try:
        manifest = read_manifest(path)
    except MissingStoreError:
        if any(path.glob(f"*/{GROUP_FILE}")):
            return _damaged(Damage(GROUP_FILE, "is missing"))
        raise
    except StoreDamagedError:
        return _damaged(Damage(GROUP_FILE, "is not the manifest that was written"))
    if not manifest.complete:
        return Verification(stores=0, files=0, damages=(), unfinished=(path,))
    files = sum((path / file).is_file() for file in store_files(manifest.spec))
    return Verification(1, files, tuple(_damages(path, manifest)), unfinished=())


def _damaged(*damages: Damage) -> Verification:
    """Tell of a store whose manifest cannot be read, so that no other file of it can be judged."""
    return Verification(stores=1, files=0, damages=damages, unfinished=())


def _verify_root(root: Path) -> Verification:
    splits = split_folders(root)
    if not splits:
        raise MissingStoreError(f"there is no store in {root}")
    found = {split: _verify_split(split) for split in splits}
    begun_only = all(one.unfinished for one in found.values())  # its document may be still to come
    of_root = [] if begun_only else list(_damages_beside(root, splits))
    of_splits = [
        replace(damage, file=f"{split.name}/{damage.file}")
        for split, one in found.items()
        for damage in one.damages
    ]
    of_root_read = not begun_only and (root / GROUP_FILE).is_file()
    return Verification(
        stores=sum(one.stores for one in found.values()),
        files=of_root_read + sum(one.files for one in found.values()),
        damages=(*of_root, *of_splits),
        unfinished=tuple(path for one in found.values() for path in one.unfinished),
    )


def _damages_beside(root: Path, splits: Sequence[Path]) -> Iterator[Damage]:
    reason = _reason_of_document(root / GROUP_FILE, root_document())
    if reason:
        yield Damage(GROUP_FILE, reason)
    for entry in sorted(root.iterdir()):
        if entry not in splits and entry.name != GROUP_FILE:
            yield Damage(entry.name, "is not part of the store")


def _verify_split(split: Path) -> Verification:
    try:
        return _verify_group(split)
    except MissingStoreError:
        strangers = tuple(_strangers(split, set()))
        if strangers:
            return _damaged(*strangers)
        return Verification(  # killed before its first file was in place
            stores=0, files=0, damages=(), unfinished=(split,)
        )


def _repair(path: Path, damages: Sequence[Damage]) -> None:
    """Files go before the manifest does: killed in between, the store is still seen as damaged."""
    try:
        manifest = read_manifest(path)
    except (MissingStoreError, StoreDamagedError):
        manifest = None
    for damage in damages:
        _delete(path, damage.file)
    if manifest is None:
        return  # its arrays still say whose they are: create_store goes on with them
    for column in manifest.spec.columns.values():
        if array_file(column) in {damage.file for damage in damages}:
            _put(path, array_file(column), array_document(column, manifest.spec))
    if any(damage.chunk is not None for damage in damages):
        _put(path, GROUP_FILE, Manifest(manifest.spec, complete=False, checksums={}).to_bytes())


def _repair_root(root: Path, damages: Sequence[Damage]) -> None:
    for damage in damages:
        if "/" not in damage.file:
            _delete(root, damage.file)
    if any(damage.file == GROUP_FILE for damage in damages):
        _put(root, GROUP_FILE, root_document())
    of_split: dict[str, list[Damage]] = {}
    for damage in damages:
        split, slash, file = damage.file.partition("/")
        if slash:
            of_split.setdefault(split, []).append(replace(damage, file=file))
    for split, found in of_split.items():
        repair_store(root / split, found)


def _delete(folder: Path, name: str) -> None:
    file = folder / name
    if not file.parent.resolve().is_relative_to(folder.resolve()):
        raise StoreError(f"{name} is not a file of the store at {folder}")
    if file.is_dir() and not file.is_symlink():
        shutil.rmtree(file)
    else:
        file.unlink(missing_ok=True)


def _put(folder: Path, name: str, document: bytes) -> None:
    write_whole(folder / name, document, folder / f"repair{SCRATCH_SUFFIX}")
