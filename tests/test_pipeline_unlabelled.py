"""Features without labels: imported, projected, validated, and reported by their distances."""

from pathlib import Path

import numpy as np
import pytest

from distill.cli import main


@pytest.fixture
def run(tmp_path: Path) -> Path:
    rows = np.random.default_rng(0).standard_normal((300, 32)).astype(np.float32)
    np.save(tmp_path / "x.npy", rows)
    assert main(["import", str(tmp_path / "x.npy"), "--run", str(tmp_path / "r"), "--quiet"]) == 0
    return tmp_path / "r"


def test_the_report_is_of_distances(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["project", "--factor", "4", "--run", str(run), "--quiet"]) == 0
    assert main(["report", "--run", str(run)]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].endswith("32 features")
    assert shown[2].split() == ["factor", "k", "mean", "ratio", "std", "recall", "checks"]
    assert shown[3].split()[:3] == ["gaussian-k8-s0", "4", "8"]
    assert shown[3].endswith("passed")
    text = (run / "report.md").read_text()
    assert "What the maps do to distances" in text
    assert "numbers were imported" in text
    for word in ("classes", "full head", "test rows", "l2"):
        assert word not in text


def test_maps_that_were_not_validated_have_no_figures(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--run", str(run)]
    assert main(["project", "--factor", "4", "--no-validate", "--quiet", *words]) == 0
    assert main(["report", *words]) == 0
    (row,) = [line for line in capsys.readouterr().out.splitlines() if "gaussian" in line]
    assert row.split() == ["gaussian-k8-s0", "4", "8", "-", "-", "-", "not", "validated"]


def test_heads_and_sweeps_say_what_is_missing(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in ("train-head", "sweep"):
        assert main([command, "--run", str(run)]) == 2
        told = capsys.readouterr().err
        assert "has no labels, which classifiers need" in told
        assert told.count("\n") == 1
