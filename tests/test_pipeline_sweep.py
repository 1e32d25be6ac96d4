"""``distill sweep`` and ``distill project --factor auto`` as commands, on imported features."""

import json
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest

import distill
from distill.cli import main
from distill.findings import Projected, Sweep
from projections import KINDS, load_projection, make_projection
from stores import open_splits
from tests.cli_examples import Command, refused

ROWS, CLASSES, DIM = 520, 6, 24
SMALL = ("--kinds", "gaussian,pca", "--factors", "1,2,6", "--seeds", "2")


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with features whose classes lie along a few directions, and a finished sweep."""
    folder = tmp_path_factory.mktemp("imported")
    rng = np.random.default_rng(1)
    scales = np.arange(1, DIM + 1) ** -0.5
    labels = rng.integers(0, CLASSES, ROWS)
    centres = 1.8 * rng.standard_normal((CLASSES, DIM)) * scales
    features = centres[labels] + rng.standard_normal((ROWS, DIM)) * scales
    np.save(folder / "x.npy", features.astype(np.float32))
    np.save(folder / "y.npy", labels)
    run = folder / "run"
    words = ["import", str(folder / "x.npy"), "--labels", str(folder / "y.npy")]
    assert main([*words, "--run", str(run), "--quiet"]) == 0
    assert main(["sweep", "--run", str(run), "--quiet", "--tolerance", "0.04", *SMALL]) == 0
    return run


@pytest.fixture
def run(imported: Path, tmp_path: Path) -> Path:
    """A copy, to be changed."""
    shutil.copytree(imported, tmp_path / "run")
    return tmp_path / "run"


def test_the_files_of_a_sweep(imported: Path) -> None:
    found = Sweep.load(imported / "sweep.json")
    assert {one.kind for one in found.maps} == {"gaussian", "pca"}
    assert (found.tolerance, found.seeds) == (0.04, 2)
    page, text = (imported / f"sweep.{end}" for end in ("html", "md"))
    assert "<svg" in page.read_text()
    assert "Recommended: pca at k = 4" in text.read_text()
    config = tomllib.loads((imported / "config.toml").read_text())
    assert config["sweep"]["kinds"] == ["gaussian", "pca"]
    assert config["sweep"]["factors"] == [1, 2, 6]


def test_a_second_call_says_the_same_and_the_function_too(run: Path, call: Command) -> None:
    cells = {path: path.stat().st_mtime_ns for path in run.glob("sweep/*/cells/*")}
    code, out, _ = call("sweep", "--run", run, "--json")
    assert code == 0
    found = json.loads(out)
    assert found["best"]["kind"] == "pca"
    assert {path: path.stat().st_mtime_ns for path in run.glob("sweep/*/cells/*")} == cells
    again = distill.sweep(run, kinds=["gaussian", "pca"], factors=[1, 2, 6])
    assert again.best == Sweep.from_json(found).best


def test_a_dry_run_counts_cells_and_writes_nothing(run: Path, call: Command) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    code, out, _ = call("sweep", "--run", run, "--dry-run", "--json")
    assert code == 0
    (stage,) = json.loads(out)["stages"]
    assert stage["done"]
    assert stage["what"].startswith("10 cells: 2 kinds of map, 4 widths of them and the full one")
    code, out, _ = call("sweep", "--run", run, "--kinds", "sparse,pca", "--dry-run", "--json")
    (stage,) = json.loads(out)["stages"]
    assert not stage["done"]
    assert 0 < stage["seconds"] < 60
    for table in ("[head]\nl2 = [0.5]\n", "[sweep]\nneighbours = 3\n"):
        (run / "other.toml").write_text(table)
        words = ("sweep", "--run", run, "--config", run / "other.toml", "--dry-run", "--json")
        (stage,) = json.loads(call(*words)[1])["stages"]
        assert not stage["done"], table
    (run / "other.toml").unlink()
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_what_is_printed_begins_with_the_recommendation(run: Path, call: Command) -> None:
    code, out, _ = call("sweep", "--run", run)
    assert code == 0
    assert out.startswith("Recommended: pca at k = 4 (6× fewer numbers)")
    assert "full head: " in out


def test_project_auto_takes_the_recommended_map(run: Path, call: Command) -> None:
    before = (run / "sweep.json").read_text()
    code, _, err = call("project", "--factor", "auto", "--tolerance", "0.04", "--run", run)
    assert code == 0
    assert "factor auto is 6: pca at k = 4" in err
    assert (run / "sweep.json").read_text() == before  # it was there: not made again
    config = tomllib.loads((run / "config.toml").read_text())
    assert (config["project"]["kind"], config["project"]["factors"]) == ("pca", [6])
    made = json.loads((run / "projected/pca-k4-s0.json").read_text())
    assert (made["data_aware"], made["factor_asked"], made["dim_out"]) == (True, 6, 4)


def test_project_auto_of_one_kind_or_tolerance(run: Path, call: Command) -> None:
    words = ("project", "--factor", "auto", "--run", run, "--kind", "gaussian")
    refused(call(*words, "--tolerance", "0.01", "--quiet"), "no factor of gaussian is recommended")
    assert call(*words, "--tolerance", "0.9", "--quiet")[0] == 0
    assert (run / "projected/gaussian-k4-s0.zarr").is_dir()
    assert Sweep.load(run / "sweep.json").tolerance == 0.9


@pytest.mark.parametrize(
    ("table", "name", "stands"),
    [
        ('[sweep]\nshipped = "embedding"\n', "shipped", "embedding"),
        ("[sweep]\nseeds = 3\n", "seeds", 3),
        ("[head]\nl2 = [0.01]\n", "l2", (0.01,)),
    ],
)
def test_project_auto_goes_by_the_settings_that_stand(
    run: Path, tmp_path: Path, call: Command, table: str, name: str, stands: object
) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(table)
    words = ("project", "--factor", "auto", "--tolerance", "0.04", "--config", file, "--quiet")
    code, _, err = call(*words, "--run", run)
    assert code == 0, err
    assert getattr(Sweep.load(run / "sweep.json"), name) == stands


def test_project_auto_takes_no_kind_that_is_not_asked_for(
    run: Path, tmp_path: Path, call: Command
) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('[sweep]\nkinds = ["gaussian"]\ntolerance = 0.04\n')
    words = ("project", "--factor", "auto", "--run", run, "--config", file)
    refused(call(*words), "no factor of any map is recommended")


def test_project_auto_sweeps_first_where_nothing_was_swept(run: Path, call: Command) -> None:
    (run / "sweep.json").unlink()
    shutil.rmtree(run / "sweep")
    assert call("project", "--factor", "auto", "--run", run, "--quiet")[0] == 0
    assert (run / "sweep.json").is_file()
    assert (run / "projected/pca-k4-s0.zarr").is_dir()


def test_auto_stands_alone_and_words_are_no_factors(run: Path, call: Command) -> None:
    refused(call("project", "--factor", "auto", "--factor", "2", "--run", run), "stands alone")
    refused(call("project", "--factor", "2,auto", "--run", run), "stands alone")
    refused(call("project", "--factor", "car", "--run", run), "project.factors", "'car'")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("--tolerance", "1"), ("sweep.tolerance", "less than 1")),
        (("--tolerance", "0"), ("sweep.tolerance", "greater than 0")),
        (("--kinds", "pc"), ("no projection of kind 'pc'", "'pca'")),
        (("--kinds", ","), ("sweep.kinds", "at least one")),
        (("--factors", "0.5"), ("sweep.factors", "greater than or equal to 1")),
        (("--factors", "1"), ("leave no width below the 24 dimensions",)),
        (("--seeds", "0"), ("sweep.seeds",)),
        (("--shipped", "box"), ("sweep.shipped", "'head' or 'embedding'")),
        (("--memory-limit", "much"), ("sweep.memory_limit", "like 4GB")),
    ],
)
def test_bad_words_are_one_line(
    run: Path, call: Command, words: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    before = (run / "config.toml").read_text()
    refused(call("sweep", "--run", run, *words), *parts)
    assert (run / "config.toml").read_text() == before


def test_a_run_without_labels_or_features_is_refused(
    imported: Path, tmp_path: Path, call: Command
) -> None:
    refused(call("sweep", "--run", tmp_path / "empty"), "no features in")
    features = imported.parent / "x.npy"
    assert call("import", features, "--run", tmp_path / "bare", "--quiet")[0] == 0
    refused(call("sweep", "--run", tmp_path / "bare"), "has no labels")
    refused(
        call("project", "--kind", "discriminant", "--factor", "6", "--run", tmp_path / "bare"),
        "a discriminant map tells classes apart",
    )
    assert call("project", "--kind", "pca", "--factor", "6", "--run", tmp_path / "bare",
                "--quiet")[0] == 0  # fmt: skip


def test_data_aware_maps_are_kept_beside_their_stores(run: Path, call: Command) -> None:
    words = ("project", "--kind", "pca", "--factor", "2", "--factor", "6", "--run", run)
    assert call(*words, "--quiet")[0] == 0
    features, projected = (
        open_splits(run / name) for name in ("features.zarr", "projected/pca-k4-s0.zarr")
    )
    kept = load_projection(run / "projected/pca-k4-s0.map/map.safetensors")
    said = projected["train"].spec.made_by["projection"]
    assert said["digest"] == kept.describe()["digest"]
    train = features["train"].features().astype(np.float64)
    directions = np.linalg.svd(train - train.mean(axis=0), full_matrices=False)[2][:4]
    # fitted on train alone: the same plane, and centred on train's mean
    assert np.linalg.svd(directions @ kept.matrix)[1] == pytest.approx(np.ones(4), abs=1e-4)
    for split in ("train", "test"):
        rows = (features[split].features() - train.mean(axis=0)) @ kept.matrix
        np.testing.assert_allclose(projected[split].features(), rows, atol=1e-4)
    record = Projected.from_json(
        {key: value for key, value in json.loads(
            (run / "projected/pca-k4-s0.json").read_text()).items() if key != "made_from"}
    )  # fmt: skip
    assert record.data_aware
    assert record.validation is not None
    assert record.validation.passed
    times = {path: path.stat().st_mtime_ns for path in (run / "projected").rglob("*.safetensors")}
    assert call(*words, "--quiet")[0] == 0
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert call("train-head", "--run", run, "--quiet")[0] == 0


@pytest.mark.parametrize("kind", ["head-svd", "fisher"])
def test_a_truncated_head_wants_the_full_head_of_these_features(
    run: Path, call: Command, kind: str
) -> None:
    words = ("project", "--kind", kind, "--factor", "4", "--run", run, "--quiet")
    refused(call(*words), "begins with the trained full head", "train-head")
    assert call("train-head", "--run", run, "--quiet")[0] == 0
    assert call(*words)[0] == 0
    assert call("project", "--kind", "learned", "--factor", "4", "--run", run, "--quiet")[0] == 0
    names = {path.name for path in (run / "projected").glob("*.map")}
    assert names == {f"{kind}-k6-s0.map", "learned-k6-s0.map"}
    assert call("train-head", "--run", run, "--quiet")[0] == 0
    truncated = json.loads((run / f"heads/{kind}-k6-s0/head.json").read_text())
    full = json.loads((run / "heads/full/head.json").read_text())
    assert abs(truncated["test"]["accuracy"] - full["test"]["accuracy"]) < 0.04  # 5 of 5 directions


def test_a_head_of_other_features_is_refused(imported: Path, tmp_path: Path, call: Command) -> None:
    np.save(tmp_path / "x.npy", 2 * np.load(imported.parent / "x.npy"))
    for folder, features in (("a", imported.parent / "x.npy"), ("b", tmp_path / "x.npy")):
        labels = imported.parent / "y.npy"
        run = tmp_path / folder
        assert call("import", features, "--labels", labels, "--run", run, "--quiet")[0] == 0
    assert call("train-head", "--run", tmp_path / "a", "--quiet")[0] == 0
    shutil.copytree(tmp_path / "a/heads", tmp_path / "b/heads")
    words = ("project", "--kind", "head-svd", "--factor", "6", "--run", tmp_path / "b")
    refused(call(*words), "was trained on other features", "train-head")


def test_a_map_without_a_seed_is_made_once(run: Path, call: Command) -> None:
    words = ("project", "--kind", "pca", "--factor", "6", "--seed", "3", "--seed", "4")
    code, _, err = call(*words, "--run", run)
    assert code == 0
    assert "a pca map has no seed; it is made once" in err
    assert [path.name for path in (run / "projected").glob("*.zarr")] == ["pca-k4-s0.zarr"]


def test_the_report_has_the_sweep_while_it_is_of_these_features(run: Path, call: Command) -> None:
    assert call("report", "--run", run, "--quiet")[0] == 0
    page = (run / "report.html").read_text()
    assert "How far can it be compressed?" in page
    assert json.loads((run / "report.json").read_text())["sweep"]["best"]["kind"] == "pca"
    found = Sweep.load(run / "sweep.json").to_json()
    found["stores"]["test"] = "sha256:other"
    (run / "sweep.json").write_text(json.dumps(found))
    code, _, err = call("report", "--run", run)
    assert code == 0
    assert "sweep.json is of other features and is left out" in err
    assert json.loads((run / "report.json").read_text())["sweep"] is None


def test_a_gaussian_store_is_what_it_was(run: Path, call: Command) -> None:
    assert call("project", "--factor", "6", "--kind", "gaussian", "--run", run, "--quiet")[0] == 0
    drawn = make_projection("gaussian", dim_in=DIM, dim_out=4, seed=0)
    said = open_splits(run / "projected/gaussian-k4-s0.zarr")["test"].spec.made_by["projection"]
    assert said == drawn.describe()
    assert not list((run / "projected").glob("*.map"))


def test_a_kind_that_was_not_swept_is_swept_for_its_factor(run: Path, call: Command) -> None:
    code, _, err = call("project", "--run", run, "--kind", "achlioptas", "--factor", "auto")
    assert code == 0, err
    assert list(run.glob("projected/achlioptas-k*-s0.json"))
    assert {one.kind for one in Sweep.load(run / "sweep.json").maps} >= {"pca", "achlioptas"}
    before = (run / "sweep.json").read_bytes()
    refused(
        call("project", "--run", run, "--kind", "achlioptaz", "--factor", "auto"), "'achlioptas'"
    )
    assert (run / "sweep.json").read_bytes() == before  # refused before any work


def test_a_dry_run_of_the_automatic_factor(run: Path, call: Command) -> None:
    code, out, err = call("project", "--run", run, "--factor", "auto", "--dry-run", "--json")
    assert code == 0, err
    stages = json.loads(out)["stages"]
    assert [stage["stage"] for stage in stages] == ["sweep", "project"]
    assert stages[0]["done"]


def test_a_file_of_settings_leaves_the_run_what_it_is(
    run: Path, tmp_path: Path, call: Command
) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('[sweep]\nkinds = ["pca"]\nfactors = [4]\n')
    code, _, err = call("sweep", "--run", run, "--config", file)
    assert code == 0, err
    config = tomllib.loads((run / "config.toml").read_text())
    assert config["data"]["name"].startswith("import:")
    assert (config["sweep"]["kinds"], config["sweep"]["factors"]) == (["pca"], [4])
    assert config["sweep"]["seeds"] == 2  # of the run's own
    assert call("report", "--run", run)[0] == 0


def test_what_is_left_out_is_said_where_nothing_is_left(run: Path, call: Command) -> None:
    words = ["sweep", "--run", run, "--memory-limit", "1KB", "--kinds", "learned"]
    refused(call(*words, "--factors", "4"), "do not fit into the memory limit")
    words = ["project", "--run", run, "--factor", "auto", "--kind", "full"]
    refused(call(*words), "full")


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_map_stays_beside_the_rows_that_it_made(run: Path, call: Command, dtype: str) -> None:
    words = ("project", "--run", run, "--kind", "head-svd", "--factor", "4", "--quiet")
    assert call("train-head", "--run", run, "--l2", "0.1", "--quiet")[0] == 0
    assert call(*words, "--dtype", dtype)[0] == 0
    kept = {file: file.read_bytes() for file in run.glob("projected/*.map/*")}
    assert kept
    assert call("train-head", "--run", run, "--l2", "0.001", "--quiet")[0] == 0
    refused(call(*words), "another head-svd map", "delete it")
    assert {file: file.read_bytes() for file in run.glob("projected/*.map/*")} == kept
    for store in run.glob("projected/head-svd*.zarr"):
        shutil.rmtree(store)
    assert call(*words)[0] == 0


def test_a_dry_run_of_project_knows_maps_of_something_else(run: Path, call: Command) -> None:
    """A learned map depends on the penalties too: with others, other rows would be asked for."""
    words = ("project", "--run", run, "--kind", "learned", "--factor", "4")
    assert call("train-head", "--run", run, "--quiet")[0] == 0
    assert "done" not in call(*words, "--dry-run")[1]
    code, _, err = call(*words)
    assert code == 0, err
    assert "done" in call(*words, "--dry-run")[1]
    (run / "other.toml").write_text("[head]\nl2 = [0.5]\n")
    assert "done" not in call(*words, "--config", run / "other.toml", "--dry-run")[1]


@pytest.mark.parametrize("harm", ["lost", "damaged", "another"])
def test_a_map_that_cannot_be_read_is_computed_again(run: Path, call: Command, harm: str) -> None:
    words = ["project", "--run", run, "--kind", "pca", "--factor", "6", "--factor", "3"]
    assert call(*words)[0] == 0
    file = run / "projected" / "pca-k4-s0.map" / "map.safetensors"
    sound = file.read_bytes()
    if harm == "lost":
        file.unlink()
    elif harm == "damaged":
        file.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
    else:
        shutil.copy(run / "projected" / "pca-k8-s0.map" / "map.safetensors", file)
    code, _, err = call(*words)
    assert code == 0, err
    assert file.read_bytes() == sound


def test_help_names_every_kind_of_map(call: Command) -> None:
    for command in ("sweep", "project"):
        code, out, _ = call(command, "--help")
        assert code == 0
        told = "".join(out[out.index("--kind") :].split())  # lines break behind a hyphen too
        assert ",".join(KINDS) in told


def test_a_projected_store_that_is_not_there_is_told_with_those_that_are(
    run: Path, call: Command
) -> None:
    refused(call("validate", "pca-k9-s0", "--run", run), "there are none")
    assert call("project", "--run", run, "--kind", "pca", "--factor", "6")[0] == 0
    refused(call("validate", "pca-k9-s0", "--run", run), "(pca-k4-s0)")


def test_a_file_that_names_data_needs_nothing_of_the_run(
    run: Path, tmp_path: Path, call: Command
) -> None:
    (run / "config.toml").write_text("not toml [")
    file = tmp_path / "whole.toml"
    file.write_text(
        '[data]\nname = "import:x"\n[sweep]\nkinds = ["pca"]\nfactors = [4]\nseeds = 1\n'
    )
    code, _, err = call("sweep", "--run", run, "--config", file)
    assert code == 0, err
    (tmp_path / "part.toml").write_text("[data]\nlimit = 7\n")
    assert call("sweep", "--run", run, "--config", tmp_path / "part.toml")[0] == 0
    config = tomllib.loads((run / "config.toml").read_text())
    assert (config["data"]["name"], config["data"]["limit"]) == ("import:x", 7)
    assert config["sweep"]["kinds"] == ["pca"]
