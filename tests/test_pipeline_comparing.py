"""``compare-students`` on a run: what it says, what it keeps, what it refuses, and a real kill."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

import distill
from distill.findings import Comparison, Fixed, Report
from distill.progress import Silent
from students import read_card, read_tensors
from tests.cli_examples import Command, refused
from tests.lessons_examples import CLASSES, dataset
from tests.teachers_examples import bert_folder

ROOT = Path(__file__).resolve().parents[1]
SMALL: dict[str, Any] = {"trials": 2, "seeds": 2, "epochs": 1, "factor": 4}
WORDS = ["--trials", "2", "--seeds", "2", "--epochs", "1", "--factor", "4"]


class Listener(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture(scope="module")
def compared(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Comparison]:
    """A comparison that nothing cut short."""
    folder = prepared(small_run, tmp_path_factory.mktemp("compared"))
    found = distill.compare_students(folder, methods="simkd", **SMALL)
    assert isinstance(found, Comparison)
    return folder, found


def prepared(small_run: Path, tmp_path: Path) -> Path:
    """The small run with a student of a few numbers: everything is in the way of the work."""
    folder = tmp_path / "run"
    shutil.copytree(small_run, folder)
    config = (folder / "config.toml").read_text()
    for now, then in (
        ("16,\n    32,\n    64,\n    128", "4,\n    8,\n    8,\n    8"),
        ("= 16\n", "= 4\n"),
    ):
        assert now in config
        config = config.replace(now, then)
    (folder / "config.toml").write_text(config)
    return folder


def timeless(found: Comparison) -> dict[str, Any]:
    """All but what a clock measured."""
    plain = found.to_json() | {"seconds": 0}
    for way in plain["ways"]:
        way["seconds"] = way["shipped"]["latency"] = 0
        for seed in way["seeds"]:
            seed["seconds"] = seed["trained_seconds"] = 0
    return plain


def records(folder: Path) -> dict[str, int]:
    return {
        str(path.relative_to(folder)): path.stat().st_mtime_ns
        for path in sorted((folder / "compare").rglob("*.json"))
    }


def test_each_training_is_a_folder_and_the_run_tells_of_all(
    compared: tuple[Path, Comparison],
) -> None:
    folder, found = compared
    assert [way.name for way in found.ways] == ["subspace", "simkd"]
    for name in ("subspace", "simkd"):
        held = {path.name for path in (folder / "compare" / name).iterdir() if path.is_dir()}
        assert held == {"trial-0", "trial-1", "seed-1", "seed-2"}
        for seed in ("seed-1", "seed-2"):
            assert (folder / "compare" / name / seed / "student.safetensors").is_file()
            assert json.loads((folder / "compare" / name / seed / "student.json").read_text())
    assert Comparison.from_json(json.loads((folder / "compare.json").read_text())) == found
    assert (folder / "compare.html").is_file()
    ours, simkd = found.ways
    assert ours.recall is not None
    assert simkd.recall is None
    assert ours.shipped is not None
    assert simkd.shipped is not None
    assert simkd.shipped.parameters > ours.shipped.parameters  # its projector stays
    assert ours.shipped.stored_bytes == 4 * 512 / 4 + 8  # and its label
    assert simkd.shipped.stored_bytes == 4 * 512
    assert len(found.ways[0].seeds) == 2


def test_the_report_shows_it(compared: tuple[Path, Comparison], tmp_path: Path) -> None:
    shutil.copytree(compared[0], tmp_path / "run")
    distill.report(tmp_path / "run")
    report = Report.load(tmp_path / "run" / "report.json")
    assert report.comparison == compared[1]
    assert "Ways to teach, side by side" in (tmp_path / "run" / "report.html").read_text()


def test_a_comparison_of_other_rows_is_left_out_of_the_report(
    compared: tuple[Path, Comparison], tmp_path: Path
) -> None:
    shutil.copytree(compared[0], tmp_path / "run")
    path = tmp_path / "run" / "compare.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"digest": "sha256:other"}))
    listener = Listener()
    assert distill.report(tmp_path / "run", progress=listener).report.comparison is None
    assert any("is of other rows and is left out" in line for line in listener.said)


def test_asked_again_nothing_is_trained(compared: tuple[Path, Comparison], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(compared[0], folder, copy_function=shutil.copy2)
    before = records(folder)
    again = distill.compare_students(folder, methods="simkd", **SMALL)
    assert again == compared[1]
    assert records(folder) == before


COMPARE_SLOWLY = """
import sys, time
from pathlib import Path
import distill
from distill import entrants, runs
from tests.test_pipeline_comparing import SMALL

remember = entrants.remember

def slowly(path, record, *, made_from):
    print("saving", flush=True)
    time.sleep(0.03)
    remember(path, record, made_from=made_from)
    time.sleep(0.03)

entrants.remember = slowly
distill.compare_students(Path(sys.argv[1]), methods="simkd", **SMALL)
"""


def kill_after(records_written: int, folder: Path) -> dict[str, int]:
    """Compare in another process until it writes so many records; what is there then."""
    command = [sys.executable, "-c", COMPARE_SLOWLY, str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        for _ in range(records_written):
            assert running.stdout.readline() == b"saving\n"
        time.sleep(0.03)  # within the write, or about
        os.kill(running.pid, signal.SIGKILL)
    return records(folder)


def test_killed_twice_it_goes_on_and_ends_the_same(
    small_run: Path, tmp_path: Path, compared: tuple[Path, Comparison]
) -> None:
    folder = prepared(small_run, tmp_path)
    searching = kill_after(2, folder)
    assert not (folder / "compare" / "recipe.json").exists()
    testing = kill_after(4, folder)
    assert (folder / "compare" / "recipe.json").is_file()
    found = distill.compare_students(folder, methods="simkd", **SMALL)
    assert isinstance(found, Comparison)
    assert timeless(found) == timeless(compared[1])
    after = records(folder)
    for kept in (searching, testing):
        assert {name: after[name] for name in kept} == kept  # what was finished is as it was


# --- refusals ------------------------------------------------------------------------------------


def test_a_wrong_name_is_refused_before_any_work(run_copy: Path, call: Command) -> None:
    answer = call("compare-students", "--run", run_copy, "--methods", "labels,vkdd", *WORDS)
    refused(answer, "no way to teach is called 'vkdd'", "did you mean 'vkd'?")
    assert not (run_copy / "compare").exists()


def test_a_missing_store_is_named_with_the_command_that_makes_it(
    run_copy: Path, call: Command
) -> None:
    answer = call("compare-students", "--run", run_copy, "--methods", "pca", *WORDS)
    refused(
        answer, "subspace:pca learns the store pca-k128-s0", "project --kind pca --factor 4 --run"
    )
    assert not (run_copy / "compare").exists()
    refused(
        call("compare-students", "--run", run_copy, "--methods", "labels", "--factor", "2"),
        "no projected store gaussian-k256-s0", "project --kind gaussian --factor 2",
    )  # fmt: skip


def test_other_settings_are_refused_until_all_is_begun_anew(
    compared: tuple[Path, Comparison], tmp_path: Path, call: Command
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(compared[0], folder)
    words = ["compare-students", "--run", folder, "--methods", "labels"]
    answer = call(*words, "--trials", "2", "--seeds", "2", "--epochs", "2", "--factor", "4")
    refused(answer, "recipe.json was made with student.epochs = 1, now it is 2", "--overwrite")
    answer = call(*words, "--trials", "3", "--seeds", "2", "--epochs", "1", "--factor", "4")
    refused(answer, "recipe.json was made with trials = 2, now it is 3")
    # what every way has a value of its own for, or none at all, and recipes of before do not name
    assert "student.decouple" not in (folder / "compare" / "recipe.json").read_text()
    code, out, err = call(
        *words, "--trials", "1", "--seeds", "1", "--epochs", "1", "--factor", "4", "--overwrite"
    )
    assert code == 0, err
    assert "labels" in out
    assert not (folder / "compare" / "simkd").exists()
    assert not (folder / "compare" / "labels" / "seed-2").exists()


def test_a_reference_may_be_named_shortly_and_must_take_part(run_copy: Path, call: Command) -> None:
    config = run_copy / "config.toml"
    before = config.read_text()
    named = '[compare]\nreference = "gaussian"\nalways = ["gaussian"]\nfinalists = 1\n'
    config.write_text(re.sub(r"(?ms)^\[compare\].*?(?=^\[)", named, before))
    words = ("compare-students", "--run", run_copy, "--methods", "labels", "--factor", "4")
    few = ("--trials", "1", "--seeds", "1", "--epochs", "1")
    code, out, err = call(*words, *few, "--json")
    assert code == 0, err
    assert json.loads(out)["reference"] == "subspace:gaussian"
    config.write_text(before.replace('reference = "subspace"', 'reference = "pretrained"'))
    refused(call(*words, *few, "--quiet"), "compare.reference", "name a file of the student's")


def test_what_is_of_one_way_alone_decides_for_no_other(run_copy: Path, tmp_path: Path) -> None:
    told: dict[str, Any] = {**SMALL, "trials": 1, "search_only": True}
    student = sorted(run_copy.glob("students/*/student.safetensors"))[0]
    tensors, _ = read_tensors(student)
    prefix = "encoder.body.network."
    for name, weights in (("one", 1.0), ("other", 2.0)):
        body = {n.removeprefix(prefix): weights * t for n, t in tensors.items() if prefix in n}
        save_file(body, tmp_path / f"{name}.safetensors")
    one, other = (str(tmp_path / f"{name}.safetensors") for name in ("one", "other"))
    distill.compare_students(run_copy, methods="labels", **told)
    found = distill.compare_students(run_copy, methods="labels,online", **told)
    assert isinstance(found, Fixed)
    assert found.made_by["ways"].keys() == {"online"}
    # labels began with weights of their own: those of a comparison with "pretrained" do not
    distill.compare_students(run_copy, methods="labels,pretrained", student_weights=one, **told)
    with pytest.raises(distill.UserError, match=r"recipe.*made with student\.weights = \"random\""):
        distill.compare_students(run_copy, methods="labels", student_weights=one, **told)
    with pytest.raises(
        distill.UserError, match=r"pretrained in the recipe .* was made with weights"
    ):
        distill.compare_students(run_copy, methods="pretrained", student_weights=other, **told)


def test_a_recipe_that_is_begun_anew_silences_what_another_found(run_copy: Path) -> None:
    told: dict[str, Any] = {**SMALL, "trials": 1, "seeds": 1, "methods": "labels"}
    distill.compare_students(run_copy, **told)
    assert (run_copy / "compare.html").is_file()
    distill.compare_students(run_copy, **told, search_only=True)
    assert (run_copy / "compare.html").is_file()
    distill.compare_students(run_copy, **told, search_only=True, overwrite=True)
    assert not list(run_copy.glob("compare.*"))


def test_who_cannot_take_part_is_said(run_copy: Path) -> None:
    listener = Listener()
    found = distill.compare_students(
        run_copy, methods="tfidf,model2vec,pretrained", progress=listener,
        **(SMALL | {"trials": 1, "seeds": 1}),
    )  # fmt: skip
    assert isinstance(found, Comparison)
    assert [way.name for way in found.ways] == ["subspace"]
    assert "tfidf is left out: it reads texts, and digits holds images" in found.notes
    assert any("pretrained is left out: name a file" in note for note in found.notes)
    assert set(found.notes) <= set(listener.said)
    (ours,) = found.ways
    assert ours.accuracy is not None
    assert ours.accuracy.interval is None  # of a single seed


def test_pretrained_weights_are_those_of_one_way_alone(
    compared: tuple[Path, Comparison], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(compared[0], folder)
    shutil.rmtree(folder / "compare")
    tensors, _ = read_tensors(
        compared[0] / "compare" / "subspace" / "seed-1" / "student.safetensors"
    )
    prefix = "encoder.body.network."
    body = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
    save_file(body, tmp_path / "body.safetensors")
    found = distill.compare_students(
        folder,
        methods="pretrained",
        student_weights=str(tmp_path / "body.safetensors"),
        **(SMALL | {"seeds": 1}),
    )
    assert isinstance(found, Comparison)
    ours, fine = found.ways
    assert fine.name == "pretrained"
    assert ours.seeds[0].loss == compared[1].ways[0].seeds[0].loss  # it began as it did before
    made_by = [
        read_card(folder / "compare" / name / "seed-1" / "student.safetensors")["made_by"]
        for name in ("subspace", "pretrained")
    ]
    assert made_by[0]["weights"] == "random"
    assert made_by[1]["weights"].startswith("sha256:")


def test_the_teacher_online_takes_part(run_copy: Path) -> None:
    found = distill.compare_students(
        run_copy, methods="online", **(SMALL | {"trials": 1, "seeds": 1})
    )
    assert isinstance(found, Comparison)
    online = found.ways[1]
    assert online.recall is not None
    assert online.shipped is not None
    assert online.shipped.stored_bytes == 8  # the label alone


def text_run(folder: Path) -> Path:
    """Sentences about animals, a BERT of a few numbers, its rows projected."""
    data = dataset("text")
    for name, split in data.splits.items():
        lines = ["text,label"]
        assert split.labels is not None
        lines += [
            f"{text},{CLASSES[label]}"
            for text, label in zip(split.inputs, split.labels, strict=True)
        ]
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    teacher = bert_folder(folder / "bert")
    distill.run(
        folder / "run", data=f"csv:{folder}/*.csv", teacher=f"hf/{teacher}", weights="pretrained",
        factor=[2], student="static/8", epochs=1,
    )  # fmt: skip
    return folder / "run"


def test_texts_have_rivals_without_a_network(tmp_path: Path) -> None:
    pytest.importorskip("model2vec.distill")
    run = text_run(tmp_path)
    found = distill.compare_students(
        run, methods="labels,tfidf,model2vec", factor=2, trials=1, seeds=2, epochs=1
    )
    assert isinstance(found, Comparison)
    assert [way.name for way in found.ways] == ["subspace", "labels", "tfidf", "model2vec"]
    for way in found.ways[2:]:
        assert way.steps is None
        assert way.accuracy is not None
        assert len({seed.accuracy for seed in way.seeds}) == 1
    tfidf = found.ways[2]
    assert tfidf.accuracy is not None
    assert tfidf.accuracy.mean > 0.8
