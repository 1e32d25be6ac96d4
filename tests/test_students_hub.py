"""Students that are shared: the folder, the card, the way back, and a hub that is not there."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import HfApi, ModelCard
from torch import Tensor

from students import (
    CheckpointError,
    PretrainedStudent,
    StudentError,
    load,
    load_student,
    read_tensors,
)
from tests.students_examples import CLASSES, RECORD, TEXTS, image_student, text_student
from tests.teachers_examples import bert_config

ALL = {"README.md", "config.json", "model.safetensors"}


def pixels(rows: int = 3) -> dict[str, Tensor]:
    return {
        "pixel_values": torch.randn(rows, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    }


def words() -> dict[str, Tensor]:
    return {
        "input_ids": torch.tensor([[2, 5, 6, 3], [2, 7, 3, 0]]),
        "attention_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]]),
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return image_student(tmp_path / "run")


def test_a_student_is_loaded_from_its_folder_and_from_its_file(folder: Path) -> None:
    there = load_student(folder / "student.safetensors")
    for path in (folder, str(folder), folder / "student.safetensors"):
        student = load(path)
        assert not any(part.training for part in student.modules())
        assert (student.classes, student.blueprint) == (CLASSES, there.blueprint)
        assert student.preprocessing == there.preprocessing
        with torch.inference_mode():
            expected = there.network(pixels())
            assert torch.equal(student(pixels()), expected)
            assert torch.equal(student.network(pixels()), expected)
            assert torch.equal(student.network.head(student.embed(pixels())), expected)
        assert student.embed(pixels()).shape == (3, 5)


def test_what_is_no_student_is_said_with_the_nearest_that_is(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(StudentError, match=f"it is a run .*students/{RECORD['name']}$"):
        load(tmp_path / "run")
    with pytest.raises(StudentError, match="there is no student at nowhere; name its folder"):
        load("nowhere")
    path = folder / "student.json"
    with pytest.raises(CheckpointError, match="cannot be read as safetensors"):
        load(path)


@pytest.mark.parametrize("make", [image_student, text_student])
def test_what_is_saved_comes_back_to_the_bit(tmp_path: Path, make: Any) -> None:
    student = load(make(tmp_path / "run"))
    shared = tmp_path / "shared"
    assert student.save_pretrained(shared) is None
    shutil.rmtree(tmp_path / "run")  # nothing of the run is needed
    prepared = pixels() if make is image_student else words()
    for again in (PretrainedStudent.from_pretrained(shared), load(shared)):
        assert not any(part.training for part in again.modules())
        with torch.inference_mode():
            assert torch.equal(again(prepared), student(prepared))
        for name in ("classes", "blueprint", "preprocessing", "made_by", "record", "weights"):
            assert getattr(again, name) == getattr(student, name)
        assert again.measured
    parts = {"tokenizer"} if make is text_student else set()
    assert {path.name for path in shared.iterdir()} == ALL | parts
    again.save_pretrained(tmp_path / "twice")
    for name in ALL:
        assert (tmp_path / "twice" / name).read_bytes() == (shared / name).read_bytes()


def test_the_config_says_what_the_student_is(folder: Path, tmp_path: Path) -> None:
    load(folder).save_pretrained(tmp_path / "shared")
    config = json.loads((tmp_path / "shared" / "config.json").read_text(encoding="utf-8"))
    assert config["classes"] == list(CLASSES)
    assert config["blueprint"]["name"] == "timm/resnet10t"
    assert config["preprocessing"]["mean"] == [0.5, 0.5, 0.5]
    assert config["record"]["test"]["accuracy"] == RECORD["test"]["accuracy"]  # type: ignore[index]
    assert config["record"]["teacher"] == "timm/resnet50"
    assert "made_from" not in config["record"]
    tensors, _ = read_tensors(tmp_path / "shared" / "model.safetensors")
    original, _ = read_tensors(folder / "student.safetensors")
    assert tensors.keys() == original.keys()
    # class names are plain words, and may be changed there
    config["classes"] = ["a", "b", "c"]
    (tmp_path / "shared" / "config.json").write_text(json.dumps(config))
    assert load(tmp_path / "shared").classes == ("a", "b", "c")


def test_the_card_has_the_numbers_of_the_record(folder: Path, tmp_path: Path) -> None:
    load(folder).save_pretrained(tmp_path / "shared")
    text = (tmp_path / "shared" / "README.md").read_text(encoding="utf-8")
    for fact in (
        "# tiny-gaussian-k5-s0",
        "| test accuracy | 81.25 % (95 % interval 75.25 % to 86.08 %, 200 rows) |",
        "| points to the teacher's full head | -1.25 (95 % interval -3.00 to +0.50, paired) |",
        "| predicts what the teacher's head predicts | 90.00 % |",
        "| teacher | timm/resnet50 |",
        "| seed | 7 |",
        "| epochs | 4, of which number 3 is kept |",
        "target gaussian-k5-s0 |",
        "- digits are not photographs",
        "- limited to 120 examples",
        "of the teacher's 250,000 |",
        "student.embed(prepared) gives (rows, 5)",
    ):
        assert fact in text, fact
    data: Any = ModelCard(text).data
    assert data.library_name == "subspace-distill"
    assert data.pipeline_tag == "image-classification"
    assert "subspace-distillation" in data.tags
    (result,) = data.eval_results
    assert (result.metric_type, result.metric_value) == ("accuracy", 0.8125)
    assert (result.dataset_name, result.dataset_split) == ("imagefolder:photos {{ 1 }}", "test")


def test_words_from_data_are_no_markup_in_the_card(folder: Path, tmp_path: Path) -> None:
    load(folder).save_pretrained(tmp_path / "shared")
    text = (tmp_path / "shared" / "README.md").read_text(encoding="utf-8")
    body = text.split("\n---\n", 1)[1]
    assert "<script>" not in body
    assert "<b>" not in body
    assert "&lt;b&gt;blue&lt;/b&gt; &#124; \\*x\\*, 62.50 %" in body
    assert "| data | imagefolder:photos \\{\\{ 1 \\}\\} |" in body


def test_weights_that_were_changed_are_not_spoken_of(folder: Path, tmp_path: Path) -> None:
    student = load(folder)
    with torch.no_grad():
        student.network.head.bias.add_(1)
    student.save_pretrained(tmp_path / "shared")
    again = PretrainedStudent.from_pretrained(tmp_path / "shared")
    assert not again.measured
    with torch.inference_mode():
        assert torch.equal(again(pixels()), student(pixels()))
    text = (tmp_path / "shared" / "README.md").read_text(encoding="utf-8")
    assert "The weights were changed after these numbers were measured" in text
    assert "model-index" not in text


def test_a_student_out_of_its_run_says_that_nothing_is_known(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "alone").mkdir()
    alone = shutil.copy(folder / "student.safetensors", tmp_path / "alone")
    load(alone).save_pretrained(tmp_path / "shared")
    text = (tmp_path / "shared" / "README.md").read_text(encoding="utf-8")
    assert "Nothing is known" in text
    assert "# timm/resnet10t" in text


def test_a_folder_is_not_written_over_unasked(folder: Path, tmp_path: Path) -> None:
    student, shared = load(folder), tmp_path / "shared"
    with pytest.raises(StudentError, match=r"student\.json is a file; save_pretrained wants"):
        student.save_pretrained(folder / "student.json")
    with pytest.raises(StudentError, match="is not empty; name another folder, or say overwrite"):
        student.save_pretrained(folder)
    text_student(tmp_path / "other").rename(tmp_path / "texts")
    load(tmp_path / "texts").save_pretrained(shared)
    student.save_pretrained(shared, overwrite=True)
    assert {path.name for path in shared.iterdir()} == ALL  # the other's tokenizer is gone
    assert "images" in (shared / "README.md").read_text(encoding="utf-8")


def test_what_fails_half_way_leaves_the_shared_student_that_was_there(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    student, shared = load(folder), tmp_path / "shared"
    student.save_pretrained(shared)
    before = {path.name: path.read_bytes() for path in shared.iterdir()}

    def full(path: Path, *_: Any) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("students.hub.write_tensors", full)
    with pytest.raises(OSError, match="No space left"):
        student.save_pretrained(shared, overwrite=True)
    assert {path.name: path.read_bytes() for path in shared.iterdir()} == before
    assert not list(tmp_path.glob(".*"))


def test_a_shared_student_can_be_saved_over_itself(tmp_path: Path) -> None:
    load(text_student(tmp_path / "run")).save_pretrained(tmp_path / "shared")
    student = load(tmp_path / "shared")
    student.save_pretrained(tmp_path / "shared", overwrite=True)
    assert (tmp_path / "shared" / "tokenizer" / "tokenizer.json").is_file()
    assert load(tmp_path / "shared").measured


def test_a_missing_tokenizer_is_named(tmp_path: Path) -> None:
    folder = text_student(tmp_path / "run")
    shutil.rmtree(folder / "tokenizer")
    with pytest.raises(StudentError, match="tokenizer is missing, without which"):
        load(folder).save_pretrained(tmp_path / "shared")
    assert not (tmp_path / "shared" / "config.json").exists()


def test_a_config_in_a_folder_travels_with_the_student(tmp_path: Path) -> None:
    bert_config(num_hidden_layers=1, hidden_act="relu").save_pretrained(tmp_path / "config")
    name = f"hf/{tmp_path / 'config'}"
    student = load(text_student(tmp_path / "run", name=name, options={}))
    student.save_pretrained(tmp_path / "shared")
    shutil.rmtree(tmp_path / "config")
    again = PretrainedStudent.from_pretrained(tmp_path / "shared")
    assert again.blueprint.name == "hf/bert"
    with torch.inference_mode():
        assert torch.equal(again(words()), student(words()))


def test_a_config_of_a_family_with_other_names_travels_too(tmp_path: Path) -> None:
    from transformers import DistilBertConfig

    config = DistilBertConfig(vocab_size=TEXTS.vocabulary, dim=24, n_layers=1, n_heads=3)
    config.save_pretrained(tmp_path / "config")
    folder = text_student(tmp_path / "run", name=f"hf/{tmp_path / 'config'}", options={})
    student = load(folder)
    student.save_pretrained(tmp_path / "shared")
    shutil.rmtree(tmp_path / "config")
    again = PretrainedStudent.from_pretrained(tmp_path / "shared")
    with torch.inference_mode():
        assert torch.equal(again(words()), student(words()))


def test_heads_on_the_first_numbers_travel_too(tmp_path: Path) -> None:
    student = load(image_student(tmp_path / "run", prefixes=(2, 4)))
    assert student.widths == (2, 4)
    student.save_pretrained(tmp_path / "shared")
    again = load(tmp_path / "shared")
    assert again.widths == (2, 4)
    assert again.measured
    with torch.inference_mode():
        rows, head = again.embed(pixels()), again.prefix["2"]
        assert isinstance(head, torch.nn.Linear)
        torch.testing.assert_close(
            again(pixels(), width=2), rows[:, :2] @ head.weight.T + head.bias, rtol=0, atol=1e-6
        )
        assert torch.equal(again(pixels(), width=4), student(pixels(), width=4))
        assert not torch.equal(again(pixels(), width=4), again(pixels()))
    text = (tmp_path / "shared" / "README.md").read_text(encoding="utf-8")
    assert "| its first 2 numbers alone | 55.00 % |" in text
    with pytest.raises(StudentError, match="no head of width 3; it has 2, 4"):
        again(pixels(), width=3)


def damaged(shared: Path, how: str) -> None:
    config = json.loads((shared / "config.json").read_text(encoding="utf-8"))
    if how == "byte":
        data = bytearray((shared / "model.safetensors").read_bytes())
        data[-100] ^= 1
        (shared / "model.safetensors").write_bytes(data)
        return
    if how == "cut":
        data = bytearray((shared / "model.safetensors").read_bytes())
        (shared / "model.safetensors").write_bytes(data[: len(data) // 2])
        return
    if how == "no weights":
        (shared / "model.safetensors").unlink()
        return
    if how == "format":
        config["format"] = 99
    elif how == "class":
        config["classes"] = config["classes"][:2]
    elif how == "network":
        config["blueprint"]["options"] = {}
    elif how == "blueprint":
        config["blueprint"]["depth"] = 3
    elif how == "key":
        del config["preprocessing"]
    text = {"json": "{", "list": "[]"}.get(how) or json.dumps(config)
    (shared / "config.json").write_text(text)


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("byte", "model.safetensors is damaged"),
        ("cut", "cannot be read as safetensors"),
        ("no weights", "there is no file .*model.safetensors"),
        ("format", "a student of format 99 cannot be read: this version reads 1"),
        ("class", "do not fit the network timm/resnet10t"),
        ("network", "do not fit the network timm/resnet10t"),
        ("blueprint", "does not describe a student network"),
        ("key", "describes no student: no 'preprocessing'"),
        ("json", "config.json is damaged"),
        ("list", "config.json describes no student"),
    ],
)
def test_a_damaged_folder_is_refused_in_one_line(
    folder: Path, tmp_path: Path, how: str, told: str
) -> None:
    load(folder).save_pretrained(tmp_path / "shared")
    damaged(tmp_path / "shared", how)
    with pytest.raises(CheckpointError, match=told) as caught:
        PretrainedStudent.from_pretrained(tmp_path / "shared")
    assert "\n" not in str(caught.value)


def test_other_folders_and_names_are_refused_in_one_line(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(StudentError, match=r"no config\.json; students\.load reads it"):
        PretrainedStudent.from_pretrained(folder)
    with pytest.raises(StudentError, match=r"is a file; from_pretrained reads a folder"):
        PretrainedStudent.from_pretrained(folder / "student.safetensors")
    with pytest.raises(StudentError, match="there is no folder runs/x/y, and it is no name on"):
        PretrainedStudent.from_pretrained("runs/x/y")


def test_code_that_a_config_names_is_not_run_unasked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_student.py").write_text(
        "import torch\n"
        "class Own(torch.nn.Module):\n"
        "    def __init__(self, dim_out):\n"
        "        super().__init__()\n"
        "        self.layer = torch.nn.Linear(3, dim_out)\n"
        "    def forward(self, prepared):\n"
        "        return self.layer(prepared['pixel_values'].mean(dim=(2, 3)))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    student = load(image_student(tmp_path / "run", name="own_student:Own", options={}))
    student.save_pretrained(tmp_path / "shared")
    for read in (load, PretrainedStudent.from_pretrained):
        with pytest.raises(StudentError, match="code of its own, own_student:Own, which would be"):
            read(tmp_path / "shared")
    again = PretrainedStudent.from_pretrained(tmp_path / "shared", trust_code=True)
    with torch.inference_mode():
        assert torch.equal(again(pixels()), student(pixels()))


def test_loading_draws_nothing_from_the_random_state(folder: Path, tmp_path: Path) -> None:
    load(folder).save_pretrained(tmp_path / "shared")
    before = torch.get_rng_state()
    load(folder)
    load(tmp_path / "shared")
    assert torch.equal(torch.get_rng_state(), before)


def test_a_hub_out_of_reach_is_one_line(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(StudentError, match="no student someone/nothing: there is no such") as found:
        PretrainedStudent.from_pretrained("someone/nothing", cache_dir=tmp_path)
    assert "\n" not in str(found.value)
    with pytest.raises(StudentError, match=r"cannot be sent to me/x \(offline, because") as sent:
        load(folder).push_to_hub("me/x")
    assert "\n" not in str(sent.value)
    with pytest.raises(StudentError, match="'no name' is no name of a hub"):
        load(folder).push_to_hub("no name")


def test_a_student_in_the_hubs_cache_is_read_offline(tmp_path: Path) -> None:
    student = load(text_student(tmp_path / "run"))
    cached = tmp_path / "cache" / "models--me--tiny"
    student.save_pretrained(cached / "snapshots" / "abc")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("abc")
    again = PretrainedStudent.from_pretrained("me/tiny", cache_dir=tmp_path / "cache")
    with torch.inference_mode():
        assert torch.equal(again(words()), student(words()))
    with pytest.raises(StudentError, match="no student me/tiny"):
        PretrainedStudent.from_pretrained("me/tiny", cache_dir=tmp_path / "cache", revision="v2")


def test_pushing_makes_the_repository_and_sends_the_folder(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, dict[str, Any]]] = []

    class Made:
        repo_id = "me/tiny"

    def create_repo(self: HfApi, **asked: Any) -> Made:
        calls.append(("create", asked))
        return Made()

    def upload_folder(self: HfApi, *, folder_path: Path, **asked: Any) -> str:
        calls.append(("upload", asked))
        shutil.copytree(folder_path, tmp_path / "sent")
        return "https://hub/me/tiny/commit/1"

    monkeypatch.setattr(HfApi, "create_repo", create_repo)
    monkeypatch.setattr(HfApi, "upload_folder", upload_folder)
    student = load(folder)
    address = student.push_to_hub("tiny", private=True, commit_message="First")
    assert address == "https://hub/me/tiny/commit/1"
    assert [name for name, _ in calls] == ["create", "upload"]
    assert calls[0][1] == {"repo_id": "tiny", "private": True, "exist_ok": True}
    assert calls[1][1]["repo_id"] == "me/tiny"
    assert calls[1][1]["commit_message"] == "First"
    assert {path.name for path in (tmp_path / "sent").iterdir()} == ALL
    with torch.inference_mode():
        assert torch.equal(load(tmp_path / "sent")(pixels()), student(pixels()))
    # saving may send, too
    shutil.rmtree(tmp_path / "sent")
    assert student.save_pretrained(tmp_path / "here", push_to_hub=True, repo_id="tiny") == address
    assert (tmp_path / "here" / "README.md").read_bytes() == (
        tmp_path / "sent" / "README.md"
    ).read_bytes()
