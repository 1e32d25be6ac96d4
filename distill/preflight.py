"""Preflight: what this machine has, what is missing, and how to get it. Calls nothing outside.

Libraries are asked for their versions by name; only those whose compiled halves are known to
break (torch, torchvision, faiss, zarr) are really loaded.
"""

import importlib
import os
import platform
import re
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

from distill import hubcache, machine
from distill.config import STUDENT, Config
from distill.findings import Check, Doctor

# lower bounds, as in pyproject.toml (a test compares them)
LIBRARIES = {
    "numpy": "1.26",
    "torch": "2.4",
    "torchvision": "0.19",
    "timm": "1.0.9",
    "transformers": "4.48",
    "datasets": "3.0",
    "faiss-cpu": "1.8",
    "scikit-learn": "1.6",
    "zarr": "3.1",
    "safetensors": "0.4.5",
    "pydantic": "2.7",
    "typer": "0.15",
    "rich": "13.7",
    "filelock": "3.13",
    "jaxtyping": "0.2.34",
    "jinja2": "3.1",
    "tomli-w": "1.0",
    "tensorboard": "2.16",
}
LOADED = {"torch": "torch", "torchvision": "torchvision", "faiss-cpu": "faiss", "zarr": "zarr"}
SUBSTITUTES = {"faiss-cpu": ("faiss-gpu", "faiss-gpu-cu12", "faiss")}
PYTHON = (3, 11)
GB = 10**9
LEAST_MEMORY, LEAST_DISK = 2 * GB, 2 * GB
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")


def doctor(config: Config, run: Path) -> Doctor:
    """Look at everything a run with this config, in this folder, will need."""
    return Doctor(checks=tuple(_checks(config, run)))


def _checks(config: Config, run: Path) -> Iterator[Check]:
    yield _python()
    libraries = [_library(name, least) for name, least in LIBRARIES.items()]
    yield from libraries
    works = {check.name for check in libraries if check.passed}
    if {"torch", "torchvision"} <= works:
        yield _pair()
    if "torch" in works:
        yield _device(config.compute.device)
    yield _cores()
    yield _memory()
    yield _disk(run)
    yield _writable(run)
    offline = is_offline()
    yield _network()
    yield _cache()
    yield _guarded("teacher", lambda: _teacher(config, offline=offline))
    yield _guarded("data", lambda: _data(config.data.name, offline=offline))
    if config.student.weights != "random":
        yield _file("student weights", config.student.weights)


def _python() -> Check:
    found, least = platform.python_version(), ".".join(map(str, PYTHON))
    if sys.version_info[:2] < PYTHON:
        return _missing("python", f"{found} is too old; install Python {least} or newer")
    return _ok("python", f"{found} at {sys.executable}")


def _library(name: str, least: str) -> Check:
    version = _version(name)
    if version is None:
        return _missing(name, f'not installed; pip install "{name}>={least}"')
    if _numbers(version) < _numbers(least):
        return _missing(name, f'{version} is too old; pip install --upgrade "{name}>={least}"')
    if name in LOADED:
        try:
            importlib.import_module(LOADED[name])
        except Exception as error:
            return _missing(name, _broken(name, version, error))
    return _ok(name, version)


def _version(name: str) -> str | None:
    for candidate in (name, *SUBSTITUTES.get(name, ())):
        try:
            return metadata.version(candidate)
        except metadata.PackageNotFoundError:
            continue
    return None


def _numbers(version: str) -> tuple[int, ...]:
    """Take the leading numbers of a version: 2.15.0+cpu -> (2, 15); 2.4 and 2.4.0 are one."""
    found = re.match(r"\d+(\.\d+)*", version)
    numbers = list(map(int, found[0].split("."))) if found else []
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)


def _broken(name: str, version: str, error: Exception) -> str:
    said = " ".join(str(error).split())[:200]
    if name == "torchvision":
        return (
            f"{version} does not load beside torch {_version('torch')} ({said}): the two are no "
            "pair, such as a CPU-only torch beside another torchvision; "
            "pip install --upgrade --force-reinstall torch torchvision, both from one index"
        )
    return f"{version} does not load ({said}); pip install --force-reinstall {name}"


def _pair() -> Check:
    """Builds for different devices load side by side until the first compiled operation."""
    torch, vision = _version("torch") or "", _version("torchvision") or ""
    told = f"torch {torch} and torchvision {vision}"
    try:
        import torch as loaded
        from torchvision.ops import nms

        box = loaded.tensor([[0.0, 0.0, 1.0, 1.0]])
        nms(box, loaded.ones(1), 0.5)
    except Exception as error:
        return _missing("torch pair", _broken("torchvision", vision, error))
    return _ok("torch pair", f"{told} work together")


def _device(wanted: str) -> Check:
    import torch

    there = [f"cpu ({torch.get_num_threads()} threads)"]
    for number in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        about = torch.cuda.get_device_properties(number)
        there.append(f"cuda:{number} ({about.name}, {about.total_memory / GB:.0f} GB)")
    if torch.backends.mps.is_available():
        there.append("mps")
    names = {entry.split(" ")[0] for entry in there}
    if wanted in {"auto", *names} or (wanted == "cuda" and "cuda:0" in names):
        return _ok("device", f"{', '.join(there)}; {wanted} is asked for")
    return _missing(
        "device", f"{wanted} is not there, only {', '.join(there)}; use --device auto, or install "
        "a torch built for it"
    )  # fmt: skip


def _cores() -> Check:
    return _ok("cores", f"{machine.cores()}")


def _memory() -> Check:
    total, free = machine.memory()
    if not total:
        return _ok("memory", "cannot be told on this system")
    told = f"{free / GB:.1f} GB free of {total / GB:.1f} GB"
    if free < LEAST_MEMORY:
        return _missing("memory", f"{told}; close other programs: {LEAST_MEMORY / GB:.0f} GB help")
    return _ok("memory", told)


def _disk(run: Path) -> Check:
    free = machine.free_disk(run)
    told = f"{free / GB:.1f} GB free at {run}"
    if free < LEAST_DISK:
        return _missing("disk", f"{told}; free some, or choose a folder elsewhere with --run")
    return _ok("disk", told)


def _writable(run: Path) -> Check:
    place = machine.existing(run)
    if not place.is_dir():
        return _missing("run folder", f"{place} is a file; choose another folder with --run")
    if not os.access(place, os.W_OK | os.X_OK):
        return _missing("run folder", f"no permission to write in {place}; choose one with --run")
    return _ok("run folder", f"{run} {'is there' if run.exists() else 'will be made'}")


def is_offline() -> bool:
    """Whether nothing can be fetched: the user said so, or there is no way out."""
    return bool(_said_offline()) or machine.has_route() is False


def _said_offline() -> str:
    yes = {"1", "on", "yes", "true"}
    return next((name for name in OFFLINE if os.environ.get(name, "").lower() in yes), "")


def _network() -> Check:
    said = _said_offline()
    if said:
        return _ok("network", f"offline, because {said} is set; unset it to fetch weights")
    if machine.has_route() is False:
        return _ok("network", "offline: this machine has no route out")
    return _ok("network", "not tried; nothing says that this machine is offline")


def _cache() -> Check:
    folder = hubcache.hub_folder()
    held = sorted(folder.glob("models--*")) if folder.is_dir() else []
    names = [place.name.removeprefix("models--").replace("--", "/") for place in held]
    if not names:
        return _ok("hub cache", f"no models in {folder}")
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return _ok("hub cache", f"{', '.join(names[:5])}{more} in {folder}")


def _teacher(config: Config, *, offline: bool) -> Check:
    name, weights = config.teacher.name, config.teacher.weights
    if name.startswith(STUDENT):
        place = name.removeprefix(STUDENT)
        if Path(place).is_dir():
            return _ok("teacher", f"the student at {place}")
        return _missing("teacher", f"no student at {place}; name a folder that is there")
    if name.partition("/")[0] not in hubcache.FAMILIES:
        return _ok("teacher", f"{name}: your own code brings its weights")
    if weights == "random":
        return _ok("teacher", f"{name} with random weights: nothing to fetch")
    if weights != "pretrained":
        return _file("teacher", weights)
    cached = hubcache.teacher_weights(name)
    if cached.found:
        return _ok("teacher", f"{name}: {cached.wanted} is here, {cached.found}")
    if offline:
        return _missing(
            "teacher",
            f"{name}: {cached.wanted} is not on this machine, and it is offline; fetch it where "
            "there is a network, or give a local file with --weights FILE.safetensors, or use "
            "--random-init",
        )
    return _ok("teacher", f"{name}: {cached.wanted} will be fetched when first needed")


def _data(name: str, *, offline: bool) -> Check:
    kind, _, place = name.partition(":")
    if kind == "digits":
        return _ok("data", "digits come with scikit-learn")
    if kind == "hub" or "/" in kind:
        wanted = place if kind == "hub" else name
        held = hubcache.dataset_folder(wanted)
        if held:
            return _ok("data", f"{wanted} is here, {held}")
        if offline:
            return _missing(
                "data", f"{wanted} is not on this machine, and it is offline; give local files, "
                "such as imagefolder:DIR, parquet:PATH or csv:PATH"
            )  # fmt: skip
        return _ok("data", f"{wanted} will be fetched when first needed")
    path = Path(place).expanduser()
    if not place or (not path.exists() and not _matches(place)):
        where = place or name
        return _missing("data", f"nothing at {where}; --data wants a path, as in imagefolder:DIR")
    return _ok("data", f"{name} is there")


def _matches(pattern: str) -> bool:
    """Whether a path with wildcards names anything."""
    path = Path(pattern).expanduser()
    anchor = Path(path.anchor or ".")
    return any(True for _ in anchor.glob(str(path.relative_to(path.anchor))))


def _file(name: str, given: str) -> Check:
    path = Path(given).expanduser()
    if not path.exists():
        return _missing(name, f"no weights at {given}; name a file that is there")
    return _ok(name, f"weights from {given}")


def _guarded(name: str, look: Callable[[], Check]) -> Check:
    """A look that needs a library which is broken finds just that."""
    try:
        return look()
    except LookupError as error:
        return _missing(name, str(error.args[0] if error.args else error))
    except (ImportError, RuntimeError, OSError) as error:
        return _missing(name, f"cannot be looked at: {' '.join(str(error).split())[:200]}")


def _ok(name: str, detail: str) -> Check:
    return Check(name=name, passed=True, detail=detail)


def _missing(name: str, detail: str) -> Check:
    return Check(name=name, passed=False, detail=detail)
