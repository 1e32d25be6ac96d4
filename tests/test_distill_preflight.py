import importlib
import os
import re
import sys
import tomllib
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from distill import hubcache, machine
from distill import preflight as examining
from distill.config import Config
from distill.findings import Check, Doctor
from distill.preflight import LIBRARIES, doctor

ROOT = Path(__file__).resolve().parents[1]


def config(**sections: dict[str, Any]) -> Config:
    return Config(**({"teacher": {"weights": "random"}} | sections))


def named(found: Doctor, name: str) -> Check:
    return next(check for check in found.checks if check.name == name)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Hugging Face cache and an empty cache of torch.hub."""
    from huggingface_hub import constants

    folder = tmp_path / "hub"
    folder.mkdir()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return folder


def put(hub: Path, repository: str, file: str) -> Path:
    """A file as the Hugging Face libraries leave it in their cache."""
    place = hub / f"models--{repository.replace('/', '--')}"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text("abc")
    target = place / "snapshots" / "abc" / file
    target.parent.mkdir(parents=True)
    target.write_text("weights")
    return target


def test_all_is_well_here(tmp_path: Path) -> None:
    found = doctor(config(), tmp_path / "runs" / "x")
    assert found.passed, [check for check in found.checks if not check.passed]
    names = {check.name for check in found.checks}
    assert {"python", "torch", "torch pair", "device", "cores", "memory", "disk"} <= names
    assert {"run folder", "network", "hub cache", "teacher", "data"} <= names
    assert not (tmp_path / "runs").exists()  # it looks and makes nothing
    assert Doctor.from_json(found.to_json()) == found


def test_the_bounds_are_those_of_the_project_file() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    stated = dict(line.split(">=") for line in project["dependencies"])
    assert {name: stated.get(name) for name in LIBRARIES} == LIBRARIES
    least = re.search(r"\d+\.\d+", project["requires-python"])
    assert least
    assert tuple(map(int, least[0].split("."))) == examining.PYTHON


def test_no_network_is_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub: Path) -> None:
    import socket

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a call to the network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    doctor(config(teacher={"name": "timm/resnet50", "weights": "pretrained"}), tmp_path)


def test_a_missing_library_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = metadata.version

    def version(name: str) -> str:
        if name.startswith("faiss"):
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(metadata, "version", version)
    check = examining._library("faiss-cpu", "1.8")
    assert not check.passed
    assert check.detail == 'not installed; pip install "faiss-cpu>=1.8"'


def test_faiss_for_gpus_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "faiss-gpu-cu12":
            return "1.12.0"
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", version)
    assert examining._library("faiss-cpu", "1.8") == Check(
        name="faiss-cpu", passed=True, detail="1.12.0"
    )


@pytest.mark.parametrize(
    ("found", "least", "passed"),
    [
        ("2.15.0+cpu", "2.4", True), ("2.4", "2.4.0", True), ("2.3.9", "2.4", False),
        ("1.10.0", "1.9", True), ("3.1.6.dev3", "3.1", True),
    ],
)  # fmt: skip
def test_versions_are_compared_as_numbers(
    found: str, least: str, passed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metadata, "version", lambda _: found)
    check = examining._library("timm", least)
    assert check.passed == passed
    if not passed:
        assert check.detail == f'{found} is too old; pip install --upgrade "timm>={least}"'


def broken_import(broken: str, error: Exception) -> Callable[[str], ModuleType]:
    real = importlib.import_module

    def load(name: str, package: str | None = None) -> ModuleType:
        if name == broken:
            raise error
        return real(name, package)

    return load


def test_torchvision_beside_the_wrong_torch_is_told_as_what_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    error = RuntimeError("operator torchvision::nms does not exist")
    monkeypatch.setattr(importlib, "import_module", broken_import("torchvision", error))
    check = examining._library("torchvision", "0.19")
    assert not check.passed
    assert "(operator torchvision::nms does not exist): the two are no pair" in check.detail
    assert check.detail.endswith("torch torchvision, both from one index")


def test_a_pair_that_fails_at_its_first_operation_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision.ops

    def nms(*_: object) -> None:
        raise RuntimeError("operator torchvision::nms does not exist")

    assert examining._pair().passed
    monkeypatch.setattr(torchvision.ops, "nms", nms)
    check = examining._pair()
    assert not check.passed
    assert "the two are no pair" in check.detail


def test_a_broken_library_does_not_stop_the_other_checks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = ImportError("libgomp.so.1: cannot open shared object file\nmore")
    monkeypatch.setattr(importlib, "import_module", broken_import("torch", error))
    found = doctor(config(), tmp_path)
    assert not found.passed
    assert named(found, "torch").detail.startswith(
        f"{metadata.version('torch')} does not load (libgomp.so.1: cannot open shared object file "
        "more); pip install"
    )
    names = {check.name for check in found.checks}
    assert "device" not in names
    assert "torch pair" not in names
    assert named(found, "disk").passed


def test_an_old_python_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examining, "PYTHON", (99, 0))
    check = examining._python()
    assert not check.passed
    assert check.detail.endswith("is too old; install Python 99.0 or newer")


@pytest.mark.parametrize(
    ("wanted", "passed"), [("auto", True), ("cpu", True), ("cuda:7", False), ("tpu", False)]
)
def test_a_device_that_is_not_there_is_named(wanted: str, passed: bool) -> None:
    check = examining._device(wanted)
    assert check.passed == passed
    if not passed:
        assert check.detail.startswith(f"{wanted} is not there, only cpu (")


def test_little_memory_and_disk_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "memory", lambda: (4 * 10**9, 10**9))
    monkeypatch.setattr(machine, "free_disk", lambda _: 3 * 10**8)
    found = doctor(config(), tmp_path)
    assert not named(found, "memory").passed
    assert named(found, "memory").detail.startswith("1.0 GB free of 4.0 GB; close other programs")
    assert not named(found, "disk").passed
    assert "0.3 GB free" in named(found, "disk").detail


def test_memory_that_cannot_be_told_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "memory", lambda: (0, 0))
    assert examining._memory().passed


def test_a_run_folder_under_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    check = examining._writable(tmp_path / "file" / "run")
    assert not check.passed
    assert check.detail == f"{tmp_path / 'file'} is a file; choose another folder with --run"


def test_a_run_folder_one_may_not_write_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    check = examining._writable(tmp_path / "run")
    assert not check.passed
    assert check.detail == f"no permission to write in {tmp_path}; choose one with --run"


def test_weights_in_the_hub_cache_are_found(hub: Path) -> None:
    repository = "timm/resnet50.a1_in1k"
    wanted = config(teacher={"name": "timm/resnet50", "weights": "pretrained"})
    check = examining._teacher(wanted, offline=True)
    assert not check.passed
    assert check.detail == (
        f"timm/resnet50: {repository} is not on this machine, and it is offline; fetch it where "
        "there is a network, or give a local file with --weights FILE.safetensors, or use "
        "--random-init"
    )
    assert examining._teacher(wanted, offline=False).passed
    target = put(hub, repository, "model.safetensors")
    check = examining._teacher(wanted, offline=True)
    assert check.passed
    assert check.detail == f"timm/resnet50: {repository} is here, {target}"


def test_weights_of_torchvision_are_looked_for_where_torch_keeps_them(
    hub: Path, tmp_path: Path
) -> None:
    wanted = config(teacher={"name": "torchvision/resnet18", "weights": "pretrained"})
    check = examining._teacher(wanted, offline=True)
    assert not check.passed
    assert "ResNet18_Weights.IMAGENET1K_V1 is not on this machine" in check.detail
    kept = tmp_path / "torch" / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    kept.parent.mkdir(parents=True)
    kept.write_text("x")
    assert examining._teacher(wanted, offline=True).passed


def test_a_transformers_folder_or_name_is_looked_up(hub: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    assert hubcache.teacher_weights(f"hf/{folder}").found is None
    (folder / "model.safetensors").write_text("x")
    assert hubcache.teacher_weights(f"hf/{folder}").found == folder / "model.safetensors"
    assert hubcache.teacher_weights("hf/org/name").found is None
    put(hub, "org/name", "pytorch_model.bin")
    found = hubcache.teacher_weights("hf/org/name").found
    assert found
    assert found.name == "pytorch_model.bin"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("timm/resnet5000", "timm has no network named resnet5000"),
        ("torchvision/resnet5000", "torchvision has no network with weights named resnet5000"),
        ("timm/resnet10t_nothing", "timm has no network named"),
        ("hf/no/such/folder", "no/such/folder is no folder here and no name of a hub"),
    ],
)
def test_a_teacher_that_does_not_exist_is_told(
    name: str, said: str, hub: Path, tmp_path: Path
) -> None:
    found = doctor(config(teacher={"name": name, "weights": "pretrained"}), tmp_path)
    assert not named(found, "teacher").passed
    assert said in named(found, "teacher").detail


def test_weights_files_must_be_there(tmp_path: Path) -> None:
    held = tmp_path / "w.safetensors"
    wanted = config(teacher={"weights": str(held)}, student={"weights": str(held)})
    found = doctor(wanted, tmp_path)
    for name in ("teacher", "student weights"):
        assert named(found, name).detail == f"no weights at {held}; name a file that is there"
    held.write_text("x")
    assert doctor(wanted, tmp_path).passed


def test_the_hub_cache_is_listed(hub: Path) -> None:
    assert examining._cache().detail == f"no models in {hub}"
    for number in range(7):
        put(hub, f"org/net{number}", "model.safetensors")
    assert examining._cache().detail == (
        f"org/net0, org/net1, org/net2, org/net3, org/net4 and 2 more in {hub}"
    )


def test_data_is_looked_for_by_its_form(tmp_path: Path, hub: Path) -> None:
    (tmp_path / "a-train.parquet").write_text("x")
    for name, passed in [
        ("digits", True),
        (f"imagefolder:{tmp_path}", True),
        (f"parquet:{tmp_path}/*-train.parquet", True),
        (f"parquet:{tmp_path}/*-nothing.parquet", False),
        (f"csv:{tmp_path}/none.csv", False),
        ("csv:", False),
        ("hub:org/name", False),
        ("org/name", False),
    ]:
        assert examining._data(name, offline=True).passed == passed, name
    assert examining._data("org/name", offline=False).passed
    (hub / "datasets--org--name").mkdir()
    assert examining._data("hub:org/name:config", offline=True).passed


def test_offline_is_what_the_user_said_or_what_has_no_route(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in examining.OFFLINE:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(machine, "has_route", lambda: True)
    assert not examining.is_offline()
    monkeypatch.setattr(machine, "has_route", lambda: None)  # cannot be told
    assert not examining.is_offline()
    monkeypatch.setattr(machine, "has_route", lambda: False)
    assert examining.is_offline()
    assert examining._network().detail == "offline: this machine has no route out"
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "because HF_HUB_OFFLINE is set" in examining._network().detail


def test_nothing_heavy_is_loaded_with_the_module() -> None:
    import subprocess

    code = (
        "import sys, distill.preflight; "
        "print([m for m in ('torch', 'timm', 'transformers', 'zarr', 'faiss') if m in sys.modules])"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == "[]"
