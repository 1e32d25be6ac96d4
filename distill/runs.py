"""The run folder: every path in it, the lock on it, and the record of the environment.

Everything a stage finds is a finding file beside the thing itself, with the fingerprint of what it
was made from; a finding whose fingerprint differs is not there.
"""

import errno
import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

from distill.findings import NO_JSON, FindingError, Record
from distill.together import follows
from distill.whole import whole

DEFAULT_RUN = Path("runs/default")
LIBRARIES = (
    "torch", "torchvision", "timm", "transformers", "datasets", "faiss-cpu", "scikit-learn",
    "zarr", "numpy", "safetensors",
)  # fmt: skip
VIEWS, POOL = "views", "unlabeled"  # splits of features.zarr for students, beside the data's own
FINGERPRINT = "made_from"
NO_PLACE = (
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.EINVAL,
)

R = TypeVar("R", bound=Record)


class RunError(ValueError):
    """The run folder cannot be used as it is."""


@dataclass(frozen=True)
class Run:
    """Where everything of one run lies. Naming a path creates nothing."""

    folder: Path

    @property
    def config(self) -> Path:
        """The resolved config."""
        return self.folder / "config.toml"

    @property
    def environment(self) -> Path:
        """Versions and machine of the last command that wrote here."""
        return self.folder / "environment.json"

    @property
    def teacher(self) -> Path:
        """The taught teacher: weights, head, card, finding."""
        return self.folder / "teacher"

    @property
    def taught(self) -> Path:
        """Finding of ``train-teacher``."""
        return self.teacher / "taught.json"

    @property
    def folds(self) -> Path:
        """Finding of ``train-teacher --folds``."""
        return self.teacher / "folds.json"

    @property
    def features(self) -> Path:
        """The teacher's features, a group a split."""
        return self.folder / "features.zarr"

    @property
    def extracted(self) -> Path:
        """Finding of ``extract`` or ``import``."""
        return self.folder / "extracted.json"

    @property
    def projections(self) -> Path:
        """Folder of all projected stores."""
        return self.folder / "projected"

    def projected(self, name: str) -> Path:
        """One projected store."""
        return self.projections / f"{name}.zarr"

    def projected_finding(self, name: str) -> Path:
        """Finding of ``project`` for one store, validation included."""
        return self.projections / f"{name}.json"

    def map_folder(self, name: str) -> Path:
        """A map that was computed from the features, beside the store it made."""
        return self.projections / f"{name}.map"

    @property
    def heads(self) -> Path:
        """Folder of all heads."""
        return self.folder / "heads"

    @property
    def moments(self) -> Path:
        """Folder of the moments of the train split, for data-aware maps."""
        return self.folder / "moments"

    @property
    def sweeps(self) -> Path:
        """Folder of the cells of all sweeps."""
        return self.folder / "sweep"

    @property
    def swept(self) -> Path:
        """Finding of ``sweep``."""
        return self.folder / "sweep.json"

    @property
    def students(self) -> Path:
        """Folder of all students."""
        return self.folder / "students"

    @property
    def comparisons(self) -> Path:
        """Folder of all trainings of ``compare-students``."""
        return self.folder / "compare"

    @property
    def compared(self) -> Path:
        """Finding of ``compare-students``."""
        return self.folder / "compare.json"

    @property
    def nested(self) -> Path:
        """Folder of all nested networks."""
        return self.folder / "nested"

    @property
    def frontiers(self) -> Path:
        """Folder of all networks of ``frontier``, by the name of the nested one."""
        return self.folder / "frontier"

    @property
    def frontier(self) -> Path:
        """Finding of ``frontier``."""
        return self.folder / "frontier.json"

    @property
    def language(self) -> Path:
        """Finding of ``nest-lm``."""
        return self.folder / "language.json"

    @property
    def costs(self) -> Path:
        """Measured sizes and latencies."""
        return self.folder / "costs.json"

    @property
    def report(self) -> Path:
        """The report as a record."""
        return self.folder / "report.json"

    def create(self) -> None:
        """Make the folder; ``RunError`` when something else has its name."""
        if self.folder.exists() and not self.folder.is_dir():
            raise RunError(f"{self.folder} is a file; --run wants a folder")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            if error.errno not in NO_PLACE:
                raise  # a full disk, no permission: told as such
            raise RunError(
                f"the run folder {self.folder} cannot be made ({error.strerror}); "
                "name another with --run"
            ) from error

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One writing command at a time, in however many processes; the lock dies with its own."""
        from filelock import FileLock, Timeout

        if follows():
            yield
            return
        fresh = not self.folder.exists()
        self.create()
        lock = FileLock(self.folder / ".lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise RunError(
                f"another distill command is working in {self.folder}; "
                "wait for it, or name another folder with --run"
            ) from None
        try:
            yield
        finally:
            lock.release()
            if fresh and [file.name for file in self.folder.iterdir()] == [".lock"]:
                shutil.rmtree(self.folder)  # refused before anything was written

    def record_environment(self, *, device: str) -> None:
        """Write ``environment.json``; it carries no time, so equal runs are equal files."""
        write_json(self.environment, environment() | {"device": device})


def environment() -> dict[str, Any]:
    """Versions and machine facts that results may depend on."""
    return {
        "python": platform.python_version(),
        "platform": f"{sys.platform}-{platform.machine()}",
        "cores": os.cpu_count() or 1,
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Installed versions of the libraries that results may depend on."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "missing"
    return found


def write_json(path: Path, data: Any) -> None:
    """Write whole or not at all; several processes of one command write once."""
    if follows():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as scratch:
        text = json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False)
        scratch.write_text(f"{text}\n", encoding="utf-8")


def remember(path: Path, record: Record, *, made_from: str) -> None:
    """Keep a finding with the fingerprint of what it was made from."""
    write_json(path, {FINGERPRINT: made_from, **record.to_json()})


def recall(path: Path, kind: type[R], *, made_from: str | None = None) -> R | None:
    """The finding at ``path``; None when there is none or it was made from something else."""
    if not path.is_file():
        return None
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        known = data.pop(FINGERPRINT, None)
        if made_from is not None and known != made_from:
            return None
        return kind.from_json(data)
    except (*NO_JSON, AttributeError, TypeError, FindingError) as error:
        raise RunError(
            f"{path} is damaged ({error}); delete it and run the command that made it again"
        ) from error
