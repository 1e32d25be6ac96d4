"""The stages that run networks, on a GPU: they end, and say what they say on a CPU."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import distill
from stores import open_splits
from students import nested as n
from tests.language_examples import corpus, llama_folder

pytestmark = pytest.mark.gpu

DEVICE = "cuda"
CONFIG = """
[data]
name = "digits"
limit = 700

[teacher]
name = "timm/deit_tiny_patch16_224"
weights = "random"
image_size = 16
options = { embed_dim = 32, depth = 2, num_heads = 2, patch_size = 8 }

[teach]
epochs = 20
learning_rate = 2e-3
augment = "crop"

[views]
count = 2
augment = "crop"

[project]
kind = "pca"
factors = [4]

[student]
name = "timm/resnet10t"
image_size = 16
factor = 4
kl_weight = 1.0
ce_weight = 1.0
head = "tuned"
epochs = 8

[compare]
methods = ["sketch", "subspace", "labels", "logits", "dkd", "features"]
reference = "sketch"
trials = 1
seeds = 2

[nest]
include = ["mlp", "attention"]
calibration = 60
probe = 30
candidates = 4
points = 3
epochs = 2

[frontier]
points = 4
seeds = 2
rival_seeds = 1
rank_networks = 2
repeats = 3
"""


@pytest.fixture(scope="module", autouse=True)
def there() -> None:
    if DEVICE == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Taught, extracted with views, mapped, and with heads, all on the device."""
    folder = tmp_path_factory.mktemp("gpu")
    (folder / "config.toml").write_text(CONFIG)
    run = folder / "run"
    taught = distill.train_teacher(run, config=folder / "config.toml", device=DEVICE)
    assert taught.test.accuracy > 0.5
    distill.extract(run, device=DEVICE)
    distill.project(run)
    distill.train_head(run)
    return run


def test_features_are_those_of_a_cpu(run: Path, tmp_path: Path) -> None:
    """Computed in bfloat16 there, of which 8 bits are kept."""
    distill.extract(
        tmp_path / "cpu", config=run / "config.toml", weights=str(run / "teacher"), device="cpu"
    )
    ours, theirs = (open_splits(f / "features.zarr")["test"] for f in (run, tmp_path / "cpu"))
    one, other = (store.features().astype(np.float64) for store in (ours, theirs))
    assert one.shape == other.shape
    assert np.linalg.norm(one - other) < 0.02 * np.linalg.norm(other)


def test_a_student_learns_and_answers(run: Path, tmp_path: Path) -> None:
    found = distill.train_student(run, way="sketch", device=DEVICE)
    assert found.students[0].test.accuracy > 0.4
    image = tmp_path / "seven.png"
    Image.fromarray(np.full((16, 16, 3), 90, dtype=np.uint8)).save(image)
    (answer,) = distill.predict([str(image)], run, device=DEVICE).predictions
    assert answer is not None


def test_ways_are_compared(run: Path) -> None:
    found: Any = distill.compare_students(run, device=DEVICE)
    assert found.ways[0].name == "sketch"
    assert all(way.accuracy and way.accuracy.mean > 0.3 for way in found.ways)


@pytest.mark.parametrize(
    "told",
    [
        {"distill": "anchor"},
        {"distill": "dense", "augment": "crop", "hint_weight": 1.0, "sampling": "every"},
        {"distill": "dense", "augment": "crop", "mix": "mixup", "kl_weight": 2.0},
        {"gauges": True, "own_biases": True, "weighing": "uncertainty", "sampling": "widening"},
    ],
    ids=["anchor", "hints", "mixed", "gauges"],
)
def test_a_teacher_is_nested_and_its_budgets_agree_with_a_cpu(
    run: Path, told: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    name = request.node.callspec.id
    found = distill.nest(run, name=name, device=DEVICE, **told)
    assert found.points[0].share == pytest.approx(1.0, abs=1e-6)
    for budget in (1.0, 0.6):
        answers = []
        for device in (DEVICE, "cpu"):
            one = distill.load_predictor(run / "nested" / name, device=device, budget=budget)
            images = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))
            with torch.inference_mode():
                logits = one.student.network({"pixel_values": images.to(device)})
            answers.append(logits.float().cpu())
        torch.testing.assert_close(*answers, rtol=1e-3, atol=1e-3)


def test_a_frontier_has_every_rival(run: Path) -> None:
    distill.nest(run, name="judged", distill="dense", hint_weight=1.0, device=DEVICE)
    found = distill.frontier(run, name="judged", device=DEVICE)
    assert found.device.startswith(DEVICE)
    assert [curve.name for curve in found.curves] == [
        "nested", "svd", "whitened", "one-rank", "width", "half", "longer",
    ]  # fmt: skip
    assert all(p.latencies for c in found.curves[:1] for p in c.points)


def test_a_language_model_is_nested(tmp_path: Path) -> None:
    model = llama_folder(tmp_path / "llama")
    found = distill.nest_lm(
        tmp_path / "run", model=str(model), data=corpus(tmp_path / "said", model), tokens=12,
        include="mlp,attention", points=3, calibration=16, epochs=2, batch_size=8, seeds=2,
        rival_seeds=1, repeats=1, device=DEVICE,
    )  # fmt: skip
    assert found.dense.divergence == pytest.approx(0, abs=1e-4)
    assert found.curves[0].points[0].divergence < found.curves[1].points[0].divergence


@pytest.mark.parametrize("prepared", [False, True])
def test_a_nested_layer_on_the_device_is_the_one_on_the_cpu(prepared: bool) -> None:
    torch.manual_seed(0)
    layer = torch.nn.Sequential(torch.nn.Linear(24, 32), torch.nn.GELU(), torch.nn.Linear(32, 8))
    n.nest(layer, include=["0", "2"], init="svd")
    rows = torch.randn(5, 24)
    wanted = {}
    for rank in (1, 4, 8):
        n.set_rank(layer, rank)
        wanted[rank] = layer(rows).detach()
    layer.to(DEVICE)
    if prepared:
        n.prepare(layer, [1, 4, 8])
    for rank, answer in wanted.items():
        n.set_rank(layer, rank)
        with torch.inference_mode():
            torch.testing.assert_close(layer(rows.to(DEVICE)).cpu(), answer, rtol=1e-4, atol=1e-5)
