"""The command line on a small real run: what it prints, its exit codes, and its complaints."""

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import distill
from distill.cli import COMMANDS, main

SMALL = [
    "--teacher", "timm/resnet10t", "--random-init", "--image-size", "32", "--limit", "120",
]  # fmt: skip
Answer = tuple[int, str, str]
Command = Callable[..., Answer]


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of everything, small enough for seconds."""
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
def call(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: Any) -> Command:
    """Run one command in an empty folder; its exit code, stdout, stderr."""
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")

    def call_main(*words: str) -> Answer:
        code = main([str(word) for word in words])
        answer = capsys.readouterr()
        return code, answer.out, answer.err

    return call_main


def refused(answer: Answer, *parts: str) -> None:
    """Exit code 2, one line on stderr that says all of ``parts``, nothing on stdout."""
    code, out, err = answer
    assert code == 2, err
    assert err.startswith("distill: ")
    assert err.count("\n") == 1, err
    assert "Traceback" not in err
    assert out == ""
    for part in parts:
        assert part in err, err


def test_help_is_fast_and_loads_nothing_heavy() -> None:
    code = (
        "import sys; from distill.cli import main; main(['--help']); "
        "heavy = {'torch', 'transformers', 'faiss', 'zarr', 'sklearn', 'numpy', 'jaxtyping'}; "
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    seconds = []  # of CPU: the clock would also measure who else is at work
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert done.stderr.strip() == "[]"
        assert "train-student" in done.stdout
    assert min(seconds) < 0.5


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c.name)
def test_every_command_has_help_for_every_option(command: Any, call: Command) -> None:
    code, out, _ = call(command.name, "--help")
    assert code == 0
    for line in out.splitlines():
        if line.strip().startswith("--"):
            assert len(line.split()) > 2 or line.strip().startswith("--json"), line


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c.name)
def test_every_command_is_in_the_readme_and_a_function(command: Any) -> None:
    readme = (Path(__file__).resolve().parents[1] / "README.md").read_text()
    assert f"`distill {command.name}" in readme
    assert command.call.__name__ in distill.__all__
    assert getattr(distill, command.call.__name__) is command.call


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c.name)
def test_every_command_takes_a_run_and_a_config(command: Any, call: Command) -> None:
    refused(call(command.name, "--run"), "--run")  # known, and without its value
    refused(call(command.name, "--config"), "--config")


def test_a_store_is_named_by_its_path_or_within_its_run(small_run: Path, call: Command) -> None:
    code, out, _ = call("info", "--run", small_run, "--json")
    assert (code, json.loads(out)["path"]) == (0, str(small_run))
    assert call("verify", "--run", small_run, "--quiet")[0] == 0
    name = next(small_run.glob("projected/*.zarr")).stem
    assert call("export-store", name, "named.npy", "--run", small_run, "--quiet")[0] == 0
    path = str(small_run / "projected" / f"{name}.zarr")
    assert call("export-store", path, "placed.npy", "--quiet")[0] == 0
    assert Path("named.npy").read_bytes() == Path("placed.npy").read_bytes()
    refused(call("export-store", "gausian", "x.npy", "--run", small_run), "gausian", name)


def test_a_second_run_does_nothing_again(small_run: Path, call: Command) -> None:
    def stamps() -> dict[str, int]:
        kept = [*small_run.rglob("*.safetensors"), *small_run.glob("**/c.*")]
        return {str(path): path.stat().st_mtime_ns for path in kept if path.is_file()}

    before = stamps()
    code, out, err = call("run", "--run", small_run)
    assert code == 0, err
    assert "report.html" in out
    assert stamps() == before


def test_the_report_of_a_run_is_whole(small_run: Path) -> None:
    found = json.loads((small_run / "report.json").read_text())
    assert [head["dim_out"] for head in found["heads"]] == [512, 128, 8]
    assert {one["method"] for one in found["students"]} == {"subspace", "labels", "logits"}
    assert {cost["role"] for cost in found["costs"]} == {"teacher", "student", "head"}
    assert all(latency["seconds"] > 0 for cost in found["costs"] for latency in cost["latencies"])
    page = (small_run / "report.html").read_text()
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page.replace("https://www.w3.org", "")


def test_json_is_the_record(small_run: Path, call: Command) -> None:
    code, out, _ = call("train-head", "--run", small_run, "--json")
    assert code == 0
    heads = json.loads(out)["heads"]
    assert heads[0]["name"] == "full"
    assert heads[0]["difference"] is None
    assert heads[1]["difference"]["against"] == "full"


def test_quiet_prints_nothing(small_run: Path, call: Command) -> None:
    assert call("train-head", "--run", small_run, "--quiet") == (0, "", "")


def test_info_and_verify_of_a_sound_run(small_run: Path, call: Command) -> None:
    code, out, _ = call("info", small_run)
    assert code == 0
    assert "features.zarr/train" in out
    assert "complete" in out
    code, out, _ = call("verify", small_run)
    assert code == 0
    assert "are sound" in out


def test_a_flipped_byte_is_found_named_and_repaired(run_copy: Path, call: Command) -> None:
    chunk = sorted((run_copy / "features.zarr/test/features").glob("c*"))[-1]
    sound = chunk.read_bytes()
    chunk.write_bytes(sound[:100] + bytes([sound[100] ^ 1]) + sound[101:])
    code, out, _ = call("verify", run_copy)
    assert code == 1
    assert "features.zarr/test" in out
    assert "rows 0 to" in out
    refused(call("project", "--factor", "32", "--run", run_copy), "features.zarr/test", "rows 0 to")
    code, _, err = call("extract", "--run", run_copy, "--repair")
    assert code == 0, err
    assert chunk.read_bytes() == sound
    assert call("verify", run_copy)[0] == 0


def test_predict_gives_a_class_for_every_image(
    small_run: Path, call: Command, tmp_path: Path
) -> None:
    from PIL import Image

    for name in ("a", "b"):
        Image.fromarray(np.full((8, 8, 3), 40, dtype=np.uint8)).save(tmp_path / f"{name}.png")
    words = ["predict", "--run", small_run, tmp_path / "a.png", tmp_path / "b.png"]
    code, out, err = call(*words)
    assert code == 0, err
    lines = [line.split("\t") for line in out.splitlines()]
    assert [Path(line[0]).name for line in lines] == ["a.png", "b.png"]
    assert all(line[1] in "0123456789" for line in lines)
    refused(call("predict", "--run", small_run, tmp_path / "c.png"), "c.png")
    refused(call(*words, "--student", "nobody"), "no student named 'nobody'", "labels")


def test_a_dry_run_says_what_and_writes_nothing(call: Command) -> None:
    code, out, err = call("run", *SMALL, "--dry-run", "--json")
    assert code == 0, err
    stages = {stage["stage"]: stage for stage in json.loads(out)["stages"]}
    assert not stages["extract"]["done"]
    assert stages["extract"]["bytes"] > 360 * 512 * 4
    assert stages["extract"]["seconds"] > 0
    assert not Path("runs").exists()


def test_validate_fails_a_wrong_map(run_copy: Path, call: Command) -> None:
    code, out, _ = call("validate", "gaussian-k128-s0", "--run", run_copy)
    assert code == 0, out
    other = str(run_copy / "projected/gaussian-k8-s0.zarr")
    code, out, err = call("validate", "--reference", other, "gaussian-k128-s0", "--run", run_copy)
    assert code in (0, 1), err  # two maps of one source: compared, whatever comes out


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["run", "--teacher", "timm/resnet5O"], ["resnet5O", "resnet50"]),
        (["extract", "--teacher", "tim/resnet50", "--random-init"], ["tim/resnet50", "timm"]),
        (["extract", "--teacher", "timm/resnet10x"], ["resnet10x", "resnet10t"]),
        (["extract", "--teacher", "torchvision/resnet1"], ["did you mean 'torchvision/resnet1"]),
        (["run", *SMALL, "--student", "timm/resnet10x"], ["resnet10x", "resnet10t"]),
        (["run", *SMALL, "--student", "hf/bert"], ["hf/bert reads texts"]),
        (["extract", "--run", "/proc/x"], ["/proc/x cannot be made"]),
        (["run", "--data", "digit"], ["digit", "digits"]),
        (["extract", "--data", "imagefolder:nowhere"], ["nowhere"]),
        (["extract", "--data", "csv:nowhere.csv", "--teacher", "hf/x"], ["nowhere.csv"]),
        (["run", "--config", "none.toml"], ["no config file at none.toml"]),
        (["run", "none.toml"], ["no config file at none.toml"]),
        (["extract", "--config", "none.toml"], ["no config file at none.toml"]),
        (["extract", "--device", "cuda:7", "--random-init"], ["cuda"]),
        (["extract", "--device", "gpu", "--random-init"], ["gpu"]),
        (["extract", "--pooling", "max"], ["teacher.pooling", "'mean'"]),
        (["extract"], ["has not been taught yet", "distill train-teacher"]),
        (["project", "--factor", "16"], ["no features", "distill extract"]),
        (["train-head"], ["no features", "distill extract"]),
        (["train-student"], ["no features", "distill extract"]),
        (["report"], ["distill extract"]),
        (["predict", "x.png"], ["no student", "distill train-student"]),
        (["info", "nowhere"], ["nothing at nowhere"]),
        (["verify", "nowhere"], ["no store at nowhere"]),
        (["import", "none.npy", "--labels", "none.csv"], ["none.npy"]),
        (["export-store", "none.zarr", "x.npy"], ["none.zarr"]),
        (["projekt"], ["No such command 'projekt'"]),
        (["project", "--factr", "3"], ["--factr", "--factor"]),
        (["project", "--factor", "x"], ["project.factors", "valid number", "'x'"]),
        (["project"], ["no features"]),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_bad_words_are_one_line(words: list[str], parts: list[str], call: Command) -> None:
    refused(call(*words), *parts)
    assert list(Path.cwd().rglob("*.*")) == []  # and leave nothing behind


def test_a_run_folder_below_a_file_is_refused(call: Command) -> None:
    Path("file").touch()
    refused(call("extract", *SMALL, "--run", "file"), "file is a file")
    refused(call("extract", *SMALL, "--run", "file/x"), "file/x cannot be made")


def test_offline_without_the_weights_says_how_to_give_a_file(call: Command) -> None:
    words = ["extract", "--weights", "pretrained", "--teacher"]
    refused(call(*words, "timm/resnet18.a1_in1k"), "--weights")
    refused(call(*words, "torchvision/resnet18"), "--weights")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["project", "--factor", "0.5"], ["project.factors", "greater than or equal to 1"]),
        (["project", "--factor", "2000"], ["2000", "512"]),
        (["project", "--kind", "gausian"], ["gausian", "gaussian"]),
        (["train-student", "--student", "timm/resnet10tt"], ["resnet10tt"]),
        (["train-student", "--factor", "3"], ["factor 3", "4", "64"]),
        (["train-student", "--loss", "mae"], ["student.loss"]),
        (["train-student", "--epochs", "3", "--factor", "64"], ["epochs", "--overwrite"]),
        (["extract", "--teacher", "timm/resnet18", "--random-init"], ["resnet10t", "resnet18"]),
        (["extract", "--limit", "60"], ["made by something else", "fingerprint", "delete"]),
        (["validate", "gaussian-k9-s0"], ["gaussian-k9-s0"]),
        (["validate", "gaussian-k8-s0", "--split", "dev"], ["dev", "train"]),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_what_does_not_fit_a_finished_run_is_refused_and_nothing_lost(
    words: list[str], parts: list[str], small_run: Path, call: Command
) -> None:
    before = (small_run / "config.toml").read_text()
    refused(call(*words, "--run", small_run), *parts)
    assert (small_run / "config.toml").read_text() == before
    assert call("verify", small_run)[0] == 0


def test_a_killed_run_goes_on_without_the_words_that_began_it(
    tmp_path: Path, call: Command
) -> None:
    """Killed in the middle, the folder knows its config: no command falls back to a default."""
    code = (
        "import os, signal, sys; from stores import StoreWriter; "
        "StoreWriter.write = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL); "
        "from distill.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    words = ["extract", *SMALL, "--run", str(tmp_path / "r")]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert done.returncode == -9
    assert call("extract", "--run", tmp_path / "r", "--quiet")[0] == 0
    _, out, _ = call("info", tmp_path / "r", "--json")
    assert json.loads(out)["stores"][0]["made_by"]["teacher"] == "timm/resnet10t"


def test_features_are_made_anew_only_when_asked(run_copy: Path, call: Command) -> None:
    other = ["extract", "--run", run_copy, "--limit", "30", "--quiet"]
    refused(call(*other), "made by something else", "distill extract --overwrite")
    assert call(*other, "--overwrite")[0] == 0
    _, out, _ = call("info", run_copy, "--json")
    assert json.loads(out)["stores"][0]["rows"] == 30


def test_a_student_does_not_learn_from_data_that_changed(tmp_path: Path, call: Command) -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    for name in ("cats", "dogs"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for number in range(20):
            pixels = rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pets" / name / f"{number}.png")
    run = ["--run", tmp_path / "r", "--quiet"]
    words = ["--teacher", "timm/resnet10t", "--random-init", "--image-size", "32"]
    assert call("extract", "--data", f"imagefolder:{tmp_path / 'pets'}", *words, *run)[0] == 0
    assert call("project", "--factor", "16", *run)[0] == 0
    a, b = (tmp_path / "pets" / name / "3.png" for name in ("cats", "dogs"))
    first, second = a.read_bytes(), b.read_bytes()
    a.write_bytes(second)
    b.write_bytes(first)
    refused(call("train-student", "--epochs", "1", *run), "any more", "extract --overwrite")
    a.write_bytes(first)
    b.write_bytes(second)
    assert call("train-student", "--epochs", "1", *run)[0] == 0


def test_a_first_look_is_called_one_in_the_report(small_run: Path) -> None:
    assert "limited to 120 examples of each split" in (small_run / "report.html").read_text()
    assert "limited to 120 examples of each split" in (small_run / "report.md").read_text()


def test_ctrl_c_says_what_is_safe(
    small_run: Path, call: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("distill.stages.train_head.train_heads", interrupted)
    code, out, err = call("train-head", "--run", small_run)
    assert code == 130
    assert "run the same command to go on" in err
    assert out == ""


@pytest.mark.parametrize(
    ("number", "part"), [(28, "the disk is full"), (13, "permission denied"), (30, "read-only")]
)
def test_a_sick_disk_is_one_line(
    number: int, part: str, small_run: Path, call: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sick(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number), "features.zarr")

    monkeypatch.setattr("distill.stages.train_head.train_heads", sick)
    refused(call("train-head", "--run", small_run), "features.zarr", part)


def limited(words: list[str], size: int) -> "subprocess.CompletedProcess[str]":
    """Run with a limit on the size of files: as a full disk or a quota would refuse to write."""
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size})); "
        "from distill.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    return subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)


def test_a_really_full_disk_is_one_line_and_resumes(tmp_path: Path, call: Command) -> None:
    words = ["extract", *SMALL, "--run", str(tmp_path / "r")]
    done = limited(words, 40_000)
    assert done.returncode == 2, done.stderr
    assert "too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert call(*words)[0] == 0


def test_a_full_disk_under_a_student_is_one_line_too(run_copy: Path, call: Command) -> None:
    words = ["train-student", "--epochs", "1", "--overwrite", "--factor", "64"]
    done = limited([*words, "--run", str(run_copy)], 200_000)
    assert done.returncode == 2, done.stderr
    assert "too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert call(*words, "--run", run_copy, "--quiet")[0] == 0
