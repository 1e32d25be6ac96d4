"""One writer at a time: a lock beside the store, which the system frees however a process dies."""

from pathlib import Path

from filelock import FileLock, Timeout

from stores.errors import StoreLockedError
from stores.layout import ROOT_SUFFIX


def lock_file(path: Path) -> Path:
    """Where the lock of the store at ``path`` lies: never among its own files or its root's."""
    if path.parent.suffix == ROOT_SUFFIX:
        return path.parent.parent / f".{path.parent.name}-{path.name}.lock"
    return path.parent / f".{path.name}.lock"


def hold(path: Path) -> FileLock:
    """Take the lock of a store now, or say who cannot."""
    where = lock_file(path)
    where.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(where, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise StoreLockedError(
            f"another process is writing the store at {path}: wait until it is done, or stop it"
        ) from None
    return lock
