"""``frontier`` on a run: what it finds, what it keeps, what it refuses, and a real kill."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import distill
from distill import classroom
from distill.classroom import Classroom
from distill.contest_answers import ANSWERS, RECORD
from distill.contestants import RIVALS, Ground, Many
from distill.contestants import Nested as Contestant
from distill.findings import Frontier, FrontierCurve
from distill.pipeline import budgeting, nesting
from distill.pipeline.budgeting import finished_frontier
from distill.pipeline.opening import peek
from distill.progress import SILENT
from distill.rank_lessons import teach_settings
from distill.runs import FINGERPRINT
from distill.training_rows import fresh_note
from distill.views import Viewed, Views
from students import LoaderFeed, read_tensors
from tests.cli_examples import Command, refused
from tests.progress_recorder import Told

ROOT = Path(__file__).resolve().parents[1]
CONFIG = """
[data]
name = "digits"
limit = 90

[teacher]
name = "timm/deit_tiny_patch16_224"
weights = "random"
image_size = 16
options = { embed_dim = 16, depth = 2, num_heads = 2, patch_size = 8 }

[teach]
epochs = 2
learning_rate = 2e-3

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
EVERY = ("svd", "whitened", "one-rank", "width", "half", "longer")


@pytest.fixture(scope="module")
def nested_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose teacher was taught and nested."""
    folder = tmp_path_factory.mktemp("nested")
    (folder / "config.toml").write_text(CONFIG)
    distill.train_teacher(folder / "run", config=folder / "config.toml")
    distill.nest(folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def measured(nested_run: Path) -> tuple[Path, Frontier]:
    """Its frontier with every rival."""
    folder = nested_run.with_name("measured")
    shutil.copytree(nested_run, folder)
    return folder, distill.frontier(folder)


@pytest.fixture
def run(nested_run: Path, tmp_path: Path) -> Path:
    """The nested run, to be changed."""
    shutil.copytree(nested_run, tmp_path / "run")
    return tmp_path / "run"


# --- what it finds --------------------------------------------------------------------------------


def test_every_contestant_has_a_curve_and_the_nested_one_comes_first(
    measured: tuple[Path, Frontier],
) -> None:
    found = measured[1]
    assert [curve.name for curve in found.curves] == ["nested", *EVERY]
    by_name = {curve.name: curve for curve in found.curves}
    seeds = {name: (curve.seeds, curve.trainings) for name, curve in by_name.items()}
    assert seeds == {
        "nested": (2, 2), "svd": (1, 0), "whitened": (1, 0), "one-rank": (1, 2),
        "width": (1, 1), "half": (1, 1), "longer": (1, 1),
    }  # fmt: skip
    updates = {curve.updates for curve in found.curves if curve.trainings}
    assert updates == {2 * 3}  # of 90 rows in batches of 32
    assert len(by_name["nested"].points) >= 4
    assert len(by_name["one-rank"].points) == 2
    assert found.measured_at == "3 x 16 x 16"
    assert found.rows == {"train": 90, "validation": 90, "test": 90}


def test_points_are_honest_about_costs_and_training(measured: tuple[Path, Frontier]) -> None:
    found = measured[1]
    nested = found.curves[0]
    assert sum(point.trained for point in nested.points) == 3
    for curve in found.curves:
        shares = [point.share for point in curve.points]
        assert shares == sorted(set(shares))
        assert all(point.share <= point.budget + 1e-9 <= 1 + 1e-9 for point in curve.points)
        assert all(0 <= point.accuracy.mean <= 1 for point in curve.points)
    assert nested.points[-1].share == pytest.approx(1)
    assert found.dense.parameters == nested.points[-1].parameters
    svd = found.curves[1].points[-1]
    assert svd.accuracy.mean == found.dense.accuracy.mean  # at full rank nothing is cut
    assert svd.difference.value == 0.0


def test_times_are_of_what_has_layers_of_its_own(measured: tuple[Path, Frontier]) -> None:
    found = measured[1]
    timed = {curve.name: [len(p.latencies) for p in curve.points] for curve in found.curves}
    assert set(timed["nested"]) == set(timed["width"]) == set(timed["half"]) == {2}
    assert set(timed["svd"]) == set(timed["one-rank"]) == set(timed["longer"]) == {0}
    assert [one.batch for one in found.dense.latencies] == [1, 32]
    assert found.threads >= 1


def test_areas_and_falls_are_those_of_the_points(measured: tuple[Path, Frontier]) -> None:
    found = measured[1]
    floors = [curve.points[0].share for curve in found.curves if len(curve.points) > 1]
    assert found.floor == max(floors)
    for curve in found.curves:
        if curve.area is None:
            assert curve.name in ("half", "longer")
            continue
        assert curve.area.mean == pytest.approx(area(curve, found), abs=1e-9)
        assert curve.falls is not None
        assert curve.behind is None if curve.name == "nested" else curve.behind is not None


def test_points_are_compared_with_the_nested_network_at_no_more_flops(
    measured: tuple[Path, Frontier],
) -> None:
    nested, *rivals = measured[1].curves
    assert all(point.behind is None for point in nested.points)
    for curve in rivals:
        for point in curve.points:
            paid = [other for other in nested.points if other.share <= point.share + 1e-6]
            if not paid:
                assert point.behind is None
                continue
            assert point.behind is not None
            apart = point.accuracy.mean - paid[-1].accuracy.mean
            assert point.behind.value == pytest.approx(apart)
            assert point.behind.interval.low <= apart <= point.behind.interval.high


def area(curve: FrontierCurve, found: Frontier) -> float:
    """By a fine grid."""
    shares = [point.share for point in curve.points]
    values = [point.accuracy.mean for point in curve.points]
    if shares[-1] < 1 - 1e-6:
        shares, values = [*shares, 1.0], [*values, found.dense.accuracy.mean]
    grid = np.unique(np.concatenate([np.linspace(found.floor, 1.0, 11), shares]))
    grid = grid[grid >= found.floor]
    return float(np.trapezoid(np.interp(grid, shares, values), grid) / (1 - found.floor))


def test_its_files_say_the_same(measured: tuple[Path, Frontier]) -> None:
    folder, found = measured
    assert Frontier.load(folder / "frontier.json") == found
    page = (folder / "frontier.html").read_text()
    for name in EVERY:
        assert name in page
        assert name in (folder / "frontier.md").read_text()


def test_the_run_s_own_network_is_the_first_seed(measured: tuple[Path, Frontier]) -> None:
    """Taught again from its start with its seed, it answers the same: one way to teach, not two."""
    folder, _ = measured
    ground, room = set_up(folder, "teacher-mlp-attention")
    runner = Contestant(ground=ground, seeds=2).runner("", 1)  # from the start
    room.teach(runner, 0, folder.parent / "again", made_by={})
    again = room.answer(runner, "validation")
    tensors, _ = read_tensors(folder / "frontier" / "teacher-mlp-attention" / "nested-s0" / ANSWERS)
    np.testing.assert_array_equal(again, tensors["validation"].numpy())


@pytest.mark.parametrize(
    ("objective", "mix"), [("anchor", "none"), ("dense", "none"), ("dense", "mixup")]
)
def test_taught_from_views_all_others_see_views_too(
    run: Path, objective: str, mix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Again from its start it has the same weights; a rival sees the views of its own seed."""
    distill.nest(run, augment="crop", mix=mix, distill=objective, name="viewed")
    ground, room = set_up(run, "viewed")
    runner = Contestant(ground=ground, seeds=2).runner("", 1)
    room.teach(runner, 0, run / "again", made_by={})
    taught = ground.taught().state_dict()
    for name, value in runner.network.state_dict().items():
        torch.testing.assert_close(value, taught[name], rtol=0, atol=0)
    rows = room._rows(room.objective, replace(room.recipe, seed=7))
    assert isinstance(rows.feed, LoaderFeed)
    assert isinstance(rows.feed.examples, Viewed)
    assert rows.feed.examples.views == Views(count=2, augment="crop", mix=mix, seed=7)
    assert room.objective.ce_weight == (1.0 if mix == "none" else 0.0)
    given: dict[str, Any] = {}

    def spied(*taught: Any, **told: Any) -> Any:
        given.update(told)
        return teach_settings(*taught, **told)

    monkeypatch.setattr(classroom, "teach_settings", spied)
    longer = RIVALS["longer"](ground, Many(seeds=1, networks=1)).runner("", 0)
    room.teach(longer, 1, run / "longer", made_by={})
    assert given["witness"].dense is ground.dense  # of one setting: it has no anchor to learn from
    assert given["train"].feed.examples.views.seed == 1
    assert given["train"].feed.targets.keys() == {"labels"}
    monkeypatch.undo()
    found = distill.frontier(run, name="viewed", rivals="svd", seeds=1, repeats=0)
    assert found.notes[0] == fresh_note("crop", mix)


def set_up(folder: Path, name: str) -> tuple[Ground, Classroom]:
    """What the frontier of a run is made of."""
    opened = peek(folder, None, {})
    subject = nesting.subject_of(opened, opened.config.nest)
    finding, saved, start = budgeting._nested(opened, name)
    learned = budgeting._learned(saved)
    feeds = budgeting._feeds(opened, subject)
    ground = budgeting._ground(opened, subject, finding, saved, start, learned, feeds["train"])
    return ground, budgeting._class(opened, subject, saved, learned, feeds, ground, Told())


# --- what it keeps --------------------------------------------------------------------------------


def test_the_same_command_again_trains_nothing_and_finds_the_same(
    measured: tuple[Path, Frontier],
) -> None:
    folder, found = measured
    told = Told()
    assert distill.frontier(folder, progress=told) == found
    assert told.steps == 0


def test_fewer_rivals_and_more_seeds_keep_what_was_trained(
    measured: tuple[Path, Frontier], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(measured[0], folder)
    told = Told()
    found = distill.frontier(folder, rivals="half,svd", seeds=3, repeats=0, progress=told)
    assert [curve.name for curve in found.curves] == ["nested", "half", "svd"]
    assert told.steps == 2 * 90  # the third seed alone
    assert found.curves[0].points[0].latencies == ()
    before = measured[1].curves
    assert found.curves[2].points[0].accuracy == before[1].points[0].accuracy


def test_other_points_teach_nothing_anew(measured: tuple[Path, Frontier], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(measured[0], folder)
    told = Told()
    found = distill.frontier(
        folder, rivals="width", budgets="0.6,0.9", points=6, repeats=0, progress=told
    )
    assert told.steps == 2 * 2 * 90  # what was finished is counted by its bar
    for name in ("nested-s1", "width-s0"):
        file = Path("frontier") / "teacher-mlp-attention" / name / "metrics.jsonl"
        assert (folder / file).read_bytes() == (measured[0] / file).read_bytes()
    assert len(found.curves[0].points) >= 6


def test_a_killed_run_goes_on_and_ends_as_one_that_was_not(
    run: Path, measured: tuple[Path, Frontier]
) -> None:
    words = [sys.executable, "-m", "distill", "frontier", "--run", str(run), "--repeats", "0",
             "--quiet"]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(words, env=environment)
    folder = run / "frontier" / "teacher-mlp-attention"
    deadline = time.monotonic() + 300
    while not (folder / "one-rank" / RECORD).exists() and time.monotonic() < deadline:
        if any((path / "checkpoints").is_dir() for path in folder.glob("one-rank-*")):
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (run / "frontier.json").exists()
    finished = {path.parent.name for path in folder.glob(f"*/{RECORD}")}
    assert "nested-s1" in finished
    found = distill.frontier(run, repeats=0)
    for ours, whole in zip(found.curves, measured[1].curves, strict=True):
        assert [p.accuracy for p in ours.points] == [p.accuracy for p in whole.points]


# --- what it refuses ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--rivals", "svd,widht"], ["no rival named 'widht'", "width"]),
        (["--budgets", "0.5,1.5"], ["frontier.budgets", "less than 1"]),
        (["--seeds", "0"], ["frontier.seeds"]),
        (["--points", "0"], ["frontier.points"]),
        (["--tolerance", "0"], ["frontier.tolerance"]),
        (["--name", "other"], ["no nested network other", "there are: teacher-mlp-attention"]),
        (["--include", "mlp"], ["no nested network teacher-mlp in", "distill nest"]),
    ],
)
def test_a_mistake_is_one_line(
    call: Command, nested_run: Path, words: list[str], parts: list[str]
) -> None:
    before = (nested_run / "config.toml").read_bytes()
    refused(call("frontier", "--run", str(nested_run), *words), *parts)
    assert (nested_run / "config.toml").read_bytes() == before


def test_a_network_that_was_taught_anew_is_refused(call: Command, run: Path) -> None:
    call("train-teacher", "--run", str(run), "--seed", "5", "--overwrite", "--quiet")
    refused(call("frontier", "--run", str(run)), "was made of another network", "nest --overwrite")


def test_what_learned_otherwise_is_not_gone_on_with(
    call: Command, measured: tuple[Path, Frontier], tmp_path: Path
) -> None:
    """The nested network was taught anew for more epochs: rivals of fewer are no match for it."""
    folder = tmp_path / "run"
    shutil.copytree(measured[0], folder)
    code, _, err = call("nest", "--run", str(folder), "--epochs", "3", "--overwrite", "--quiet")
    assert code == 0, err
    refused(
        call("frontier", "--run", str(folder), "--rivals", "half", "--repeats", "0", "--quiet"),
        "was made with epochs = 2, now it is 3",
        "--overwrite",
    )


def test_other_data_are_refused(call: Command, run: Path) -> None:
    config = (run / "config.toml").read_text()
    (run / "config.toml").write_text(config.replace("limit = 90", "limit = 80"))
    code, _, err = call("frontier", "--run", str(run))
    assert code == 2
    assert err.count("\n") == 1


def test_json_is_the_finding(call: Command, measured: tuple[Path, Frontier]) -> None:
    folder, found = measured
    code, out, err = call("frontier", "--run", str(folder), "--json")
    assert code == 0, err
    assert Frontier.from_json(json.loads(out)) == found


def test_what_is_picked_does_not_depend_on_test_labels(tmp_path: Path) -> None:
    from distill.config import FrontierConfig
    from distill.contestants import Nested as Contestant
    from distill.contestants import dense_of
    from distill.stages.frontier import Field, frontier
    from tests.contest_examples import ground, room, rows

    one, picks = ground(), []
    for turn in (0, 1):
        labels: dict[str, Any] = {name: found for name, (_, found) in rows().items()}
        labels["test"] = (labels["test"] + turn) % 4
        field = Field(
            nested="x", teacher="t", measured_at="m", dense_flops=1, classes=4,
            dense=dense_of(one), contestants=[Contestant(ground=one, seeds=1)],
            inputs={"rows": rows()["test"][0][:1]},
        )  # fmt: skip
        found = frontier(
            field,
            room(labels=labels),
            folder=tmp_path / str(turn),
            settings=FrontierConfig(repeats=0, tolerance=0.2),
        )
        picks.append(found.picked)
    assert picks[0].share == picks[1].share
    assert picks[0].validation == picks[1].validation
    assert picks[0].test != picks[1].test


def test_a_frontier_of_a_network_that_was_nested_anew_is_no_part_of_the_report(
    measured: tuple[Path, Frontier], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(measured[0], folder)
    record = folder / "nested" / measured[1].nested / "nested.json"
    opened = peek(folder, None, {})
    assert finished_frontier(opened, SILENT) == measured[1]
    other = json.loads(record.read_text())
    other[FINGERPRINT] = "another"
    record.write_text(json.dumps(other))
    assert finished_frontier(opened, SILENT) is None
