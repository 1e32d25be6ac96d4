"""The commands as functions of the package, and small commands on features of one's own."""

import json
import pydoc
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

import distill
from distill import pipeline
from distill.cli import main
from stores import create_store, open_store
from tests.features_examples import names_file, npy


@pytest.fixture
def imported(tmp_path: Path) -> Path:
    """A run of imported features."""
    run = tmp_path / "run"
    distill.import_features(npy(tmp_path), run, labels=names_file(tmp_path))
    return run


def test_the_package_names_its_functions_without_loading_them() -> None:
    assert sorted(distill.__all__) == sorted(pipeline.__all__)
    assert set(distill.__all__) <= set(dir(distill))
    code = "import sys, distill; dir(distill); print('distill.pipeline' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "False"


def test_help_of_a_function_names_its_options_and_the_command_line_says_them_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    told = pydoc.plain(pydoc.render_doc(distill.train_student))
    assert "Options\n    -------\n" in told
    assert "seed : int\n        seed of initial weights and order" in told
    assert "seed : int | list[int]" in pydoc.plain(pydoc.render_doc(distill.project))
    assert "Options" not in pydoc.plain(pydoc.render_doc(distill.verify))
    assert main(["train-student", "--help"]) == 0
    assert capsys.readouterr().out.count("seed of initial weights and order") == 1


def test_help_says_what_an_option_means_in_its_own_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    main(["train-student", "--help"])
    assert "timm/NAME, hf/TYPE" in capsys.readouterr().out
    main(["predict", "--help"])
    assert "where a run has several" in " ".join(capsys.readouterr().out.split())
    main(["extract", "--help"])
    assert "0 takes all" in " ".join(capsys.readouterr().out.split())


def test_the_version_is_the_installed_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"distill {metadata.version('subspace-distill')}\n"


def test_import_prints_a_record_or_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["import", str(npy(tmp_path)), "--labels", str(names_file(tmp_path))]
    assert main([*words, "--run", str(tmp_path / "a"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["dim"], found["rows_written"]) == (7, 101)
    assert main([*words, "--run", str(tmp_path / "b")]) == 0
    out = capsys.readouterr().out
    assert out.startswith("imported from x.npy: train 68, validation 12, test 21 rows of 7 float32")


def test_import_of_half_precision_says_nothing_on_stderr(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones((20, 3), np.float16))
    words = ["import", str(tmp_path / "x.npy"), "--run", str(tmp_path / "run")]
    command = [sys.executable, "-m", "distill", *words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("factor", [3.5, [3.5], "3.5"], ids=repr)
def test_a_single_factor_does(imported: Path, factor: float) -> None:
    found = distill.project(imported, factor=factor, validate=False)
    assert [one.dim_out for one in found.projected] == [2]


def test_an_empty_list_is_refused_by_the_functions(imported: Path) -> None:
    with pytest.raises(distill.UserError, match=r"project\.factors: must name at least one"):
        distill.project(imported, factor=[])
    with pytest.raises(distill.UserError, match=r"head\.l2: must name at least one"):
        distill.train_head(imported, l2=[])


def test_a_split_is_no_store(imported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = imported / "features.zarr"
    to = imported / "f.npy"
    assert main(["export-store", str(store / "test"), str(to)]) == 2
    assert (
        f"{store / 'test'} is one split; name {store} and --split test" in capsys.readouterr().err
    )
    assert main(["export-store", str(store), "--split", "test", str(to), "--quiet"]) == 0
    assert len(np.load(to)) == 21


def test_damage_is_told_beside_an_unfinished_split_and_an_empty_folder(
    imported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = imported / "features.zarr"
    with create_store(root / "views", open_store(root / "train").spec):
        pass  # as a kill leaves it
    (imported / "projected" / "gaussian-k2-s0.zarr").mkdir(parents=True)
    assert main(["verify", str(imported)]) == 0
    told = capsys.readouterr().out
    assert "files in 1 stores are sound" in told
    assert f"{root / 'views'} is unfinished" in told
    assert f"{imported / 'projected' / 'gaussian-k2-s0.zarr'} is unfinished" in told
    chunk = root / "test" / "features" / "c.0.0"
    chunk.write_bytes(chunk.read_bytes()[:-1])
    assert main(["verify", str(imported)]) == 1
    told = capsys.readouterr().out
    assert f"{root}/test/features/c.0.0 (chunk 0, rows 0 to 20)" in told
    assert f"{root / 'views'} is unfinished" in told
