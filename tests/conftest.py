"""Fixtures for all tests; shapes and dtypes in signatures are checked on every call."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"

# Not distill.pipeline: it names the parts' types without loading them.
OURS = [
    "distill.certify", "distill.datasets", "distill.metrics", "distill.neighbours",
    "distill.stages", "distill.sweeping",
    "teachers", "projections", "students", "stores",
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
