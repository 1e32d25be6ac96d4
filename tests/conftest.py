"""Fixtures for all tests; shapes and dtypes in signatures are checked on every call."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

if TYPE_CHECKING:
    from tests.cli_examples import Answer, Command

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"

# Not distill.pipeline: it names the parts' types without loading them. Not distill.augmentations:
# beartype draws from the generators that views must leave alone.
OURS = [
    "distill.certify", "distill.classroom", "distill.comparing", "distill.contest_curves",
    "distill.datasets", "distill.entrants", "distill.frontiers",
    "distill.metrics", "distill.neighbours", "distill.rivals", "distill.sources", "distill.stages",
    "distill.sweeping", "distill.views", "teachers", "projections", "students", "stores",
]  # fmt: skip
install_import_hook(OURS, "beartype.beartype")

settings.register_profile("ci", deadline=None, max_examples=30, derandomize=True)
settings.load_profile("ci")

DEFAULT_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data and weights beside the checkout; its README says what is in it."""
    folder = Path(os.environ.get("DISTILL_TEST_DATA", DEFAULT_DATA))
    if not folder.is_dir():
        pytest.skip("no folder of real data: set DISTILL_TEST_DATA to one")
    return folder


@pytest.fixture(autouse=True)
def loud_numpy() -> Iterator[None]:
    """Silent NaN and overflow in NumPy become errors."""
    import numpy as np

    with np.errstate(divide="raise", over="raise", invalid="raise"):
        yield


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of everything, small enough for seconds."""
    from distill.cli import main
    from tests.cli_examples import SMALL

    folder = tmp_path_factory.mktemp("small") / "run"
    words = ["run", *SMALL, "--factor", "4", "--factor", "64", "--epochs", "2", "--baselines"]
    assert main([*words, "--run", str(folder), "--quiet"]) == 0
    return folder


@pytest.fixture
def run_copy(small_run: Path, tmp_path: Path) -> Path:
    """The finished run, to be damaged."""
    shutil.copytree(small_run, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: Any) -> "Command":
    """Run one command in an empty folder; its exit code, stdout, stderr."""
    from distill.cli import main

    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")

    def call_main(*words: str) -> "Answer":
        code = main([str(word) for word in words])
        answer = capsys.readouterr()
        return code, answer.out, answer.err

    return call_main
