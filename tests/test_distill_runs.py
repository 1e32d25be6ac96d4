"""The run folder: findings are kept whole, matched by what they were made from, and locked."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from distill.findings import Distortion, FindingError, Interval, Latency, Record, Score
from distill.runs import Run, RunError, environment, recall, remember

SCORE = Score(
    rows=3,
    accuracy=0.5,
    interval=Interval(low=0.1, high=0.9),
    macro_f1=0.4,
    worst_class="<b>",
    worst_class_accuracy=0.0,
)


def test_a_finding_comes_back_equal(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "score.json"
    remember(path, SCORE, made_from="abc")
    assert recall(path, Score, made_from="abc") == SCORE
    assert recall(path, Score) == SCORE


def test_a_finding_made_from_something_else_is_not_there(tmp_path: Path) -> None:
    remember(tmp_path / "score.json", SCORE, made_from="abc")
    assert recall(tmp_path / "score.json", Score, made_from="abd") is None
    assert recall(tmp_path / "none.json", Score) is None


@pytest.mark.parametrize(
    "content",
    [b"", b"[1]", b"3", b'{"rows": 3}', b'{"unknown": 1}', b"\xff\xfe\x00", b'{"\xe9": 1}'],
)
def test_a_damaged_finding_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "score.json"
    path.write_bytes(content)
    with pytest.raises(FindingError, match=r"score\.json does not hold a Score"):
        Score.load(path)
    with pytest.raises(RunError, match=r"score\.json is damaged .* delete it"):
        recall(path, Score)


def test_a_finding_is_utf8_whatever_the_locale(tmp_path: Path) -> None:
    path = tmp_path / "score.json"
    remember(path, replace(SCORE, worst_class="Äpfel"), made_from="abc")
    assert "Äpfel".encode() in path.read_bytes()
    found = recall(path, Score)
    assert found is not None
    assert found.worst_class == "Äpfel"


def test_tuples_and_records_inside_records_survive_json() -> None:
    found = Distortion(
        pairs=2,
        mean=1.0,
        std=0.1,
        p01=0.8,
        p50=1.0,
        p99=1.2,
        eps=0.5,
        within_eps=1.0,
        histogram_edges=(0.0, 1.0),
        histogram_counts=(7,),
    )
    assert Distortion.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_a_record_saves_whole_and_loads(tmp_path: Path) -> None:
    latency = Latency(batch=1, seconds=0.25, device="cpu")
    latency.save(tmp_path / "latency.json")
    assert Latency.load(tmp_path / "latency.json") == latency
    assert [file.name for file in tmp_path.iterdir()] == ["latency.json"]
    (tmp_path / "latency.json").write_text("{}")
    with pytest.raises(FindingError, match=r"latency\.json does not hold a Latency"):
        Latency.load(tmp_path / "latency.json")


def test_every_record_type_is_frozen() -> None:
    assert all(kind.__dataclass_params__.frozen for kind in Record.__subclasses__())  # type: ignore[attr-defined]


HOLD = """
import sys, time
from pathlib import Path
from distill.runs import Run
with Run(Path(sys.argv[1])).locked():
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_command_on_a_run_is_refused_until_the_first_dies(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "r")], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline().strip() == "held"
    run = Run(tmp_path / "r")
    with pytest.raises(RunError, match="another distill command is working in"), run.locked():
        pass
    holder.kill()
    holder.wait()
    holder.stdout.close()
    with run.locked():
        assert (tmp_path / "r").is_dir()


def test_a_run_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "r").write_text("")
    with pytest.raises(RunError, match="is a file; --run wants a folder"):
        Run(tmp_path / "r").create()


def test_the_environment_names_what_results_depend_on() -> None:
    found = environment()
    assert found["versions"]["torch"] != "missing"
    assert found["cores"] == (os.cpu_count() or 1)
