"""Views, unlabeled data and projection during extraction, through all commands of a run."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distill.cli import main
from distill.config import ConfigError, fingerprint, load_config, settle
from distill.datasets import load_dataset
from distill.findings import Extracted, Taught
from distill.pipeline import plan
from distill.pipeline.opening import peek
from distill.runs import FINGERPRINT, recall
from distill.views import Viewed, Views
from projections import make_projection
from stores import open_splits
from students import load_head
from teachers import load_teacher
from tests.cli_examples import SMALL, Command, refused

VIEWED = ["--views", "2", "--augment", "crop", "--mix", "mixup", "--unlabeled", "digits"]
WIDTH = 512


def command(*words: object) -> int:
    return main([str(word) for word in words])


@pytest.fixture(scope="module")
def viewed_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clean rows projected; then views and a pool, which are not projected yet."""
    folder = tmp_path_factory.mktemp("viewed") / "run"
    assert command("extract", *SMALL, "--run", folder, "--quiet") == 0
    assert command("project", "--factor", "8", "--run", folder, "--quiet") == 0
    assert command("train-head", "--run", folder, "--quiet") == 0
    shutil.copytree(folder, folder.parent / "clean")
    assert command("extract", *VIEWED, "--run", folder, "--quiet") == 0
    return folder


@pytest.fixture
def viewed(viewed_run: Path, tmp_path: Path) -> Path:
    """A copy to be changed."""
    shutil.copytree(viewed_run, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture(scope="module")
def mapped_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Only projected rows, of clean examples and of views."""
    folder = tmp_path_factory.mktemp("mapped") / "run"
    words = ["--views", "2", "--factor", "8", "--kind", "orthogonal", "--seed", "3"]
    words += ["--dtype", "float16"]
    assert command("extract", *SMALL, *words, "--run", folder, "--quiet") == 0
    return folder


@pytest.fixture
def mapped(mapped_run: Path, tmp_path: Path) -> Path:
    """A copy to be changed."""
    shutil.copytree(mapped_run, tmp_path / "run")
    return tmp_path / "run"


def test_what_is_asked_for_is_stored_beside_the_clean_rows(viewed: Path) -> None:
    stores = open_splits(viewed / "features.zarr")
    pool = 1797 - 120 - 576  # all of the one split that digits have, but what is the run's own
    rows = {name: store.spec.rows for name, store in stores.items()}
    assert rows == {
        "train": 120, "validation": 120, "test": 120, "unlabeled": 2 * pool, "views": 240,
    }  # fmt: skip
    assert stores["views"].spec.made_by["views"] == {
        "count": 2, "augment": "crop", "mix": "mixup", "seed": 0,
    }  # fmt: skip
    config = peek(viewed, None, {}).config
    assert (config.views.count, config.views.mix) == (2, "mixup")
    assert config.extract.unlabeled == "digits"
    found = recall(viewed / "extracted.json", Extracted)
    assert found is not None
    assert {split.split: split.rows for split in found.splits} == rows
    assert any("this run's own and are left out of the pool" in note for note in found.notes)


def test_the_rows_are_of_the_views_that_the_config_describes(viewed: Path) -> None:
    """What a student will see: data, config and store are enough to make the pixels again."""
    opened = peek(viewed, None, {})
    split = load_dataset(opened.config.data).splits["train"]
    views = Viewed(split.inputs, split.ids, Views(**opened.config.views.model_dump()), "image")
    teacher = load_teacher("timm/resnet10t", weights="random", image_size=32)
    expected = teacher.embed(teacher.prepare([views[row] for row in range(10)])).features
    stored = open_splits(viewed / "features.zarr")["views"].features(0, 10)
    np.testing.assert_allclose(stored, expected, rtol=1e-4, atol=1e-5)


def test_a_store_projected_before_the_views_serves_heads_and_is_completed(
    viewed: Path, call: Command
) -> None:
    heads = (viewed / "heads" / "gaussian-k64-s0" / "head.json").read_bytes()
    code, _, err = call("train-head", "--run", viewed)
    assert code == 0
    assert "lacks the unlabeled and the views of the features: run `distill project" in err
    assert (viewed / "heads" / "gaussian-k64-s0" / "head.json").read_bytes() == heads
    before = open_splits(viewed / "projected" / "gaussian-k64-s0.zarr")
    code, _, err = call("project", "--factor", "8", "--run", viewed)
    assert code == 0
    after = open_splits(viewed / "projected" / "gaussian-k64-s0.zarr")
    assert {n: after[n].digest for n in before} == {n: s.digest for n, s in before.items()}
    projection = make_projection("gaussian", dim_in=WIDTH, dim_out=64, seed=0)
    for name, source in open_splits(viewed / "features.zarr").items():
        np.testing.assert_allclose(
            after[name].features(), source.features() @ projection.matrix, rtol=1e-4, atol=1e-4
        )
        assert after[name].spec.views == source.spec.views
        assert after[name].spec.labelled == source.spec.labelled
        np.testing.assert_array_equal(after[name].ids(), source.ids())
    code, _, err = call("train-head", "--run", viewed)
    assert "lacks" not in err
    assert (viewed / "heads" / "gaussian-k64-s0" / "head.json").read_bytes() == heads


def test_other_commands_are_not_disturbed_by_the_further_splits(
    viewed: Path, viewed_run: Path, call: Command
) -> None:
    clean = viewed_run.parent / "clean"
    assert call("project", "--factor", "8", "--run", viewed)[0] == 0
    code, out, _ = call("info", viewed)
    assert code == 0
    assert f"{viewed}/features.zarr/views" in out
    assert f"{viewed}/projected/gaussian-k64-s0.zarr/unlabeled" in out
    code, out, _ = call("verify", viewed)
    assert code == 0
    assert "are sound" in out
    assert call("validate", "gaussian-k64-s0", "--run", viewed)[0] == 0
    code, out, err = call("report", "--run", viewed)
    assert code == 0, err
    assert "full head" in out  # a split without labels is no reason to have none
    sweep = ["sweep", "--kinds", "gaussian", "--factors", "8", "--seeds", "1"]
    found = []
    for folder in (viewed, clean):
        code, out, err = call(*sweep, "--run", folder)
        assert code == 0, err
        found.append(json.loads((folder / "sweep.json").read_text())["maps"])
    for mine, theirs in zip(*found, strict=True):
        assert mine["accuracy"] == theirs["accuracy"]


def test_other_views_are_refused_with_the_way_out(viewed: Path, call: Command) -> None:
    stored = (viewed / "config.toml").read_bytes()
    for words, difference in (
        (["--seed", "1"], "seed is 0 there and 1 is asked for"),
        (["--views", "3"], "count is 2 there and 3 is asked for"),
        (["--augment", "crop-flip"], "augment is crop there and crop-flip is asked for"),
    ):
        answer = call("extract", *words, "--run", viewed)
        refused(answer, "features.zarr/views holds other views", difference, "extract --overwrite")
    assert (viewed / "config.toml").read_bytes() == stored
    code, out, _ = call("extract", "--views", "1", "--overwrite", "--run", viewed)
    assert code == 0
    assert "views 120" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--augment", "crop-flop"], "no augmentation named 'crop-flop'; did you mean 'crop-flip'"),
        (["--augment", "token-dropout"], "token-dropout is for texts, and these examples are ima"),
        (["--mix", "blend"], "views.mix: "),
        (["--views", "-1"], "views.count: "),
        (["--unlabeled", "digit"], "no data set named 'digit'; did you mean 'digits'?"),
        (["--factor", "8", "--kind", "pca"], "a pca map is computed from features, and none are"),
        (["--factor", "8", "--kind", "gausian"], "did you mean 'gaussian'?"),
        (["--factor", "5000"], "factor 5000 leaves nothing of 512 dimensions"),
        (["--factor", "0.5"], "extract.factor: "),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_made(
    words: list[str], said: str, call: Command, tmp_path: Path
) -> None:
    asked = ["--views", "2", *words]
    refused(call("extract", *SMALL, *asked, "--run", tmp_path / "run"), said)
    assert not (tmp_path / "run" / "features.zarr").exists()


def test_a_dry_run_counts_views_and_pool_and_the_projected_width(
    viewed: Path, call: Command, tmp_path: Path
) -> None:
    code, out, _ = call("extract", "--dry-run", "--run", viewed)
    assert code == 0
    assert "2802 rows of 512 float32, 240 of them views, 2202 of them unlabeled  done" in out
    clean = tmp_path / "none"
    words = ["--views", "3", "--factor", "16", "--dtype", "float16"]
    code, out, _ = call("extract", "--dry-run", *SMALL, *words, "--run", clean)
    assert code == 0
    assert "720 rows of 32 float16, 360 of them views  to do" in out
    asked: dict[str, Any] = {"views": 3, "factor": 16, "dtype": "float16"}
    planned = plan("extract", clean, teacher="timm/resnet10t", random_init=True, limit=120, **asked)
    assert planned.stages[0].bytes == 720 * (32 * 2 + 16)
    assert not clean.exists()


def test_projected_as_they_are_made_features_are_gone_on_with_as_they_are(
    mapped: Path, call: Command
) -> None:
    config = peek(mapped, None, {}).config
    assert (config.project.kind, config.project.seeds) == ("orthogonal", (3,))
    assert (config.project.factors, config.student.factor) == ((1,), 1)
    code, out, _ = call("project", "--run", mapped)
    assert code == 0
    assert "nothing to project" in out
    assert not list((mapped / "projected").glob("*.zarr"))
    code, out, _ = call("train-head", "--run", mapped)
    assert code == 0
    assert out.splitlines()[2].split()[:3] == ["full", "1", "64"]
    code, out, err = call("report", "--run", mapped)
    assert code == 0, err
    text = (mapped / "report.md").read_text()
    note = "projected as they were made, from 512 to 64 dimensions, by the orthogonal map of seed 3"
    assert note in text


def test_the_teachers_cost_is_that_of_its_full_width_and_the_folded_head(
    mapped: Path, call: Command
) -> None:
    assert call("report", "--run", mapped)[0] == 0
    costs = {
        cost["name"]: cost for cost in json.loads((mapped / "costs.json").read_text())["costs"]
    }
    backbone = load_teacher("timm/resnet10t", weights="random", image_size=32).card.parameters
    assert costs["timm/resnet10t"]["parameters"] == backbone + 10 * WIDTH + 10


def test_a_head_on_projected_features_is_that_of_the_projected_store(
    mapped: Path, viewed_run: Path, tmp_path: Path, call: Command
) -> None:
    """Projected during extraction or afterwards: the same rows, so the same predictions."""
    full = tmp_path / "full"
    shutil.copytree(viewed_run.parent / "clean", full)
    words = ["--kind", "orthogonal", "--seed", "3", "--factor", "8"]
    assert call("project", *words, "--run", full)[0] == 0
    for folder in (full, mapped):
        assert call("train-head", "--run", folder)[0] == 0
    after, _ = load_head(full / "heads" / "orthogonal-k64-s3" / "head.safetensors")
    during, _ = load_head(mapped / "heads" / "full" / "head.safetensors")
    rows = open_splits(full / "projected" / "orthogonal-k64-s3.zarr")["test"].features()
    assert (after.predict(rows) == during.predict(rows)).mean() > 0.97  # float16 in between


def test_projected_rows_can_be_projected_further(mapped: Path, call: Command) -> None:
    assert call("project", "--factor", "2", "--kind", "gaussian", "--run", mapped)[0] == 0
    store = open_splits(mapped / "projected" / "gaussian-k32-s3.zarr")["views"]
    assert store.spec.made_by["projection"]["dim_in"] == 64
    assert store.spec.made_by["projected_before"]["kind"] == "orthogonal"


def settled(tables: dict[str, Any], **overrides: Any) -> Any:
    return settle(tables, {key.replace("__", "."): value for key, value in overrides.items()})


def test_a_file_that_projects_while_extracting_means_factor_1_from_there_on() -> None:
    found = settled({"extract": {"factor": 4, "kind": "hadamard", "seed": 2}})
    assert (found.project.kind, found.project.seeds) == ("hadamard", (2,))
    assert (found.project.factors, found.student.factor) == ((1,), 1)
    own = settled({"extract": {"factor": 4}, "project": {"factors": [1, 2]}})
    assert own.project.factors == (1, 2)
    assert settled({}).project.factors == (2, 4, 8, 16)


def test_asked_for_by_hand_it_is_over_what_the_run_said_before() -> None:
    before = {"project": {"factors": [2, 4], "kind": "pca"}, "student": {"factor": 16}}
    found = settled(before, extract__factor=8)
    assert (found.project.factors, found.project.kind) == ((1,), "gaussian")
    assert found.student.factor == 1
    again = settled({"extract": {"factor": 8}, **before})
    assert again.project.factors == (2, 4)
    with pytest.raises(ConfigError, match=r"extract\.factor"):
        settled({}, extract__factor=0.5)


@pytest.fixture(scope="module")
def taught_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher taught from views."""
    folder = tmp_path_factory.mktemp("taught") / "run"
    words = ["--augment", "crop", "--epochs", "1", "--batch-size", "8"]
    assert command("train-teacher", *SMALL, *words, "--run", folder, "--quiet") == 0
    return folder


def test_a_teacher_is_taught_from_views_once(taught_run: Path, call: Command) -> None:
    found = recall(taught_run / "teacher" / "taught.json", Taught)
    assert found is not None
    assert found.notes[0] == "taught from a new view of every example each epoch: crop"
    assert load_config(taught_run / "config.toml")["teach"]["augment"] == "crop"
    code, _, err = call("train-teacher", "--run", taught_run)
    assert code == 0
    assert "is taught already" in err
    refused(
        call("train-teacher", "--augment", "crop-flip", "--run", taught_run), "taught otherwise"
    )


def test_an_unknown_augmentation_leaves_the_taught_teacher_as_it_is(
    taught_run: Path, call: Command
) -> None:
    before = (taught_run / "teacher" / "taught.json").read_bytes()
    words = ["train-teacher", "--augment", "cropp", "--overwrite", "--run", taught_run]
    refused(call(*words), "no augmentation named 'cropp'; did you mean 'crop'?")
    assert (taught_run / "teacher" / "taught.json").read_bytes() == before


def test_a_teacher_taught_before_there_were_views_is_still_known(tmp_path: Path) -> None:
    """Its record was made without a word about augmentation or precision."""
    words = ["--epochs", "1", "--batch-size", "8", "--run", tmp_path / "run", "--quiet"]
    assert command("train-teacher", *SMALL, *words) == 0
    opened = peek(tmp_path / "run", None, {})
    teach = opened.config.teach.model_dump()
    assert teach.pop("augment") == ""
    assert teach.pop("precision") == "auto"
    assert teach.pop("folds") == 0
    teacher = opened.config.teacher.model_dump(exclude={"taught", "layer"})
    record = json.loads((tmp_path / "run" / "teacher" / "taught.json").read_text())
    assert record[FINGERPRINT] == fingerprint(teacher, teach, opened.dataset.fingerprint)
