"""The command line on a small real run: what it prints, and what it does not do twice."""

import json
import resource
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any, is_typeddict

import numpy as np
import pytest

import distill
from distill.cli import COMMANDS
from distill.config import load_config
from tests.cli_examples import SMALL, Command, refused


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
def test_what_a_config_keeps_on_can_be_put_off(command: Any, call: Command) -> None:
    _, out, _ = call(command.name, "--help")
    hints = typing.get_type_hints(command.call)
    tables = [one for hint in hints.values() for one in typing.get_args(hint) if is_typeddict(one)]
    kept = [
        name.replace("_", "-")
        for table in tables
        for name, hint in typing.get_type_hints(table).items()
        if hint is bool and name != "random_init"  # --weights takes that back
    ]
    assert [name for name in kept if f"--{name}/--no-{name}" not in out.replace(" ", "")] == []
    assert "--no-random-init" not in out


def test_what_is_put_off_stands_in_the_config(run_copy: Path, call: Command) -> None:
    words = ("train-student", "--run", run_copy, "--epochs", "1", "--overwrite")
    for way, kept in ((("--calibrate",), True), ((), True), (("--no-calibrate",), False)):
        code, _, err = call(*words, *way)
        assert code == 0, err
        assert load_config(run_copy / "config.toml")["student"]["calibrate"] is kept


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
