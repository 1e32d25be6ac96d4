"""Students on a run: of a budget, of the teacher's embeddings, of the features themselves."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import distill
from distill.errors import StageError
from distill.lessons import Lesson
from distill.pipeline.learning import _embeddings
from distill.progress import Silent
from distill.schooling import open_school
from distill.stages.measure import count_multiply_adds
from stores import open_splits
from students import build, load_student, slice_embeddings
from teachers import load_teacher
from tests.cli_examples import Command, refused
from tests.lessons_examples import dataset, lesson, student_settings
from tests.teachers_examples import WORDS, bert_folder


class Stopping(Silent):
    """Interrupts after the first epoch."""

    def detail(self, text: str) -> None:
        if text.startswith("epoch 1"):
            raise KeyboardInterrupt


TINY_BERT = {
    "hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 16, "num_hidden_layers": 1,
}  # fmt: skip


@pytest.mark.parametrize(
    ("student", "told"),
    [
        ("decouple = 8.0", "decouple: set --decouple 0, or train with --way sketch"),
        ('way = "sketch"\nkl_weight = 0\nce_weight = 0', "set --kl-weight or --ce-weight above 0"),
        ('way = "sketch"\nce_weight = 1.0\nloss = "cosine"', "is compared by plain squares"),
    ],
)
def test_a_student_that_cannot_be_taught_is_refused_before_any_work(
    tmp_path: Path, call: Command, student: str, told: str
) -> None:
    config = tmp_path / "c.toml"
    config.write_text(f'[data]\nname = "digits"\n[student]\n{student}\n')
    words = ("run", config, "--run", tmp_path / "run", "--random-init")
    refused(call(*words), told)
    assert not list((tmp_path / "run").rglob("*.zarr"))


def test_the_student_auto_takes_no_more_than_its_budget(run_copy: Path) -> None:
    found = distill.train_student(
        run_copy, student="auto", budget=0.3, factor=4, epochs=1, baselines=False
    )
    (student,) = found.students
    assert student.network == "timm/resnet10t"
    network = load_student(run_copy / "students" / student.name / "student.safetensors").network
    teacher = load_teacher("timm/resnet10t", weights="random", image_size=32)
    prepared = teacher.prepare([Image.new("RGB", (8, 8))])
    costs = [count_multiply_adds(one, prepared)[0] for one in (network, teacher.module)]
    assert 0.1 < costs[0] / costs[1] <= 0.3


@pytest.mark.parametrize("command", ["train-student", "compare-students"])
def test_a_teacher_that_did_not_make_the_features_is_refused(
    run_copy: Path, tmp_path: Path, call: Command, command: str
) -> None:
    """Its students would see inputs that it prepares, beside rows of inputs that another did."""
    config = tmp_path / "other.toml"
    config.write_text("[teacher.preprocessing]\nmean = 0.1\n")
    answer = call(command, "--run", run_copy, "--config", config, "--factor", "4")
    refused(answer, "has other mean now than when it made", "extract --overwrite")


def test_a_budget_below_the_smallest_student_is_refused(run_copy: Path, call: Command) -> None:
    answer = call(
        "train-student", "--run", run_copy, "--student", "auto", "--budget", "1e-6", "--factor", "4"
    )
    refused(answer, "a budget of 1e-06 allows", "or name a student")


def test_a_dry_run_names_the_student_that_the_budget_gives(run_copy: Path, call: Command) -> None:
    words = ("--student", "auto", "--budget", "0.3", "--factor", "4", "--dry-run")
    code, out, err = call("train-student", "--run", run_copy, *words)
    assert code == 0, err
    assert "timm/resnet10t, 2 epochs" in out


def test_a_dry_run_tells_what_is_done_from_what_would_be_made(
    run_copy: Path, call: Command
) -> None:
    words = ("train-student", "--run", run_copy, "--factor", "4", "--epochs", "1", "--no-baselines")
    assert "done" not in call(*words, "--dry-run")[1]
    assert call(*words)[0] == 0
    assert "done" in call(*words, "--dry-run")[1]
    for more in (("--overwrite",), ("--epochs", "2"), ("--factor", "16")):
        assert "done" not in call(*words, *more, "--dry-run")[1]
    assert "done" in call("extract", "--run", run_copy, "--dry-run")[1]
    assert "done" not in call("extract", "--run", run_copy, "--overwrite", "--dry-run")[1]


def test_a_dry_run_looks_at_what_made_the_features_and_not_at_their_number(
    run_copy: Path, call: Command
) -> None:
    def done(*words: str) -> list[bool]:
        code, out, err = call(*words, "--run", run_copy, "--dry-run", "--json")
        assert code == 0, err
        return [stage["done"] for stage in json.loads(out)["stages"]]

    assert done("extract") == [True]
    assert done("extract", "--batch-size", "7") == [True]
    for words in (
        ("--teacher", "timm/resnet18"),
        ("--dtype", "float16"),
        ("--image-size", "64"),
    ):
        assert done("extract", *words) == [False], words
    assert done("run", "--teacher", "timm/resnet18") == [False] * 3
    manifest = run_copy / "features.zarr" / "test" / "zarr.json"
    manifest.rename(manifest.with_name("away"))
    assert done("extract") == [False]


def test_a_dry_run_of_project_knows_stores_of_other_features(run_copy: Path, call: Command) -> None:
    words = ("project", "--run", run_copy, "--factor", "4", "--factor", "64")
    assert "done" in call(*words, "--dry-run")[1]
    (stored,) = run_copy.glob("projected/*-k8-*.zarr")
    (stored / "test").rename(run_copy / "away")
    assert "done" not in call(*words, "--dry-run")[1]
    (run_copy / "away").rename(stored / "test")
    assert "done" in call(*words, "--dry-run")[1]
    anew = ("extract", "--run", run_copy, "--overwrite", "--limit", "60", "--quiet")
    assert call(*anew)[0] == 0
    assert "done" not in call(*words, "--dry-run")[1]


def test_single_rows_and_seeds_beyond_torch_are_one_line(run_copy: Path, call: Command) -> None:
    words = ("train-student", "--run", run_copy, "--factor", "4", "--quiet")
    refused(call(*words, "--batch-size", "1"), "BatchNorm learns from no single row")
    refused(call(*words, "--seed", str(1 << 63)), "student.seed", "less than 9223372036854775808")


def test_interrupted_before_the_work_began_a_wrong_name_stays_nowhere(
    run_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (run_copy / "config.toml").read_bytes()

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("distill.pipeline.learning.teach_students", interrupted)
    with pytest.raises(KeyboardInterrupt):
        distill.train_student(run_copy, student="timm/resnet1000", kind="pca")
    assert (run_copy / "config.toml").read_bytes() == before


def test_a_report_leaves_out_students_of_other_features_and_says_so(
    run_copy: Path, call: Command
) -> None:
    """Their accuracy is of other rows, and their difference to a head that is gone."""
    there = {path.parent.name for path in run_copy.glob("students/*/student.json")}
    assert {one.name for one in distill.report(run_copy).report.students} == there
    (run_copy / "environment.json").write_text("{")  # decides nothing
    distill.extract(run_copy, limit=90, overwrite=True)
    code, _, err = call("report", "--run", run_copy)
    assert code == 0
    for name in there:
        assert f"{name} learned from other features and is left out; delete it, or run" in err
    assert distill.report(run_copy).report.students == ()


@pytest.mark.parametrize("interrupted", [False, True])
@pytest.mark.parametrize(
    ("words", "other"),
    [(("--seed", "1"), "gaussian-k128-s1"), (("--kind", "orthogonal"), "orthogonal-k128-s0")],
)
def test_rows_of_another_map_as_wide_are_refused_in_the_place_of_those_that_were_learned(
    run_copy: Path,
    tmp_path: Path,
    call: Command,
    words: tuple[str, str],
    other: str,
    interrupted: bool,
) -> None:
    student = ("train-student", "--run", run_copy, "--factor", "4", "--no-baselines", "--quiet")
    if interrupted:
        with pytest.raises(KeyboardInterrupt):
            distill.train_student(run_copy, factor=4, baselines=False, progress=Stopping())
    else:
        assert call(*student)[0] == 0
    head = (run_copy / "heads" / "gaussian-k128-s0" / "head.safetensors").read_bytes()
    shutil.copytree(run_copy, tmp_path / "elsewhere")
    assert call("project", "--run", tmp_path / "elsewhere", "--factor", "4", *words)[0] == 0
    learned = run_copy / "projected" / "gaussian-k128-s0.zarr"
    shutil.rmtree(learned)
    shutil.copytree(tmp_path / "elsewhere" / "projected" / f"{other}.zarr", learned)
    kind, _, seed = other.split("-")
    refused(
        call(*student),
        f"holds rows of the {kind} map of seed {seed[1:]}, not of the gaussian map of seed 0",
        f"delete {learned} and run `distill project --kind gaussian --factor 4",
    )
    assert (run_copy / "heads" / "gaussian-k128-s0" / "head.safetensors").read_bytes() == head
    shutil.rmtree(learned)
    made_again = ("project", "--run", run_copy, "--kind", "gaussian", "--factor", "4")
    assert call(*made_again)[0] == 0
    assert call(*student)[0] == 0


def test_a_map_that_is_not_there_is_made_by_the_words_that_are_told(
    run_copy: Path, call: Command
) -> None:
    student = ("train-student", "--run", run_copy, "--kind", "orthogonal", "--factor", "64")
    answer = call(*student, "--no-baselines", "--epochs", "1")
    refused(answer, "no projected store orthogonal-k8-s0 (factor 64)")
    told = answer[2].split("`")[1]
    assert told == f"distill project --kind orthogonal --factor 64 --run {run_copy}"
    assert call(*told.split()[1:])[0] == 0
    assert call(*student, "--no-baselines", "--epochs", "1")[0] == 0


def test_factor_one_teaches_the_features_as_they_are(run_copy: Path) -> None:
    (student,) = distill.train_student(run_copy, factor=1, baselines=False, epochs=1).students
    assert student.target == "full"
    assert student.dim_out == 512
    assert student.name.endswith("-full")


def test_a_student_learns_rows_of_half_precision_beside_the_others(
    run_copy: Path, call: Command
) -> None:
    words = ("project", "--run", run_copy, "--factor", "4", "--dtype", "float16")
    assert "done" not in call(*words, "--dry-run")[1]
    code, out, err = call(*words)
    assert code == 0, err
    assert "-float16" in out
    code, out, err = call(*words, "--dry-run")
    assert "done" in out
    stores = {path.name: path for path in (run_copy / "projected").glob("*-k128-*.zarr")}
    (name,) = (one for one in stores if one.endswith("-float16.zarr"))
    wide = open_splits(stores[name.replace("-float16", "")])
    narrow = open_splits(stores[name])
    for split in narrow:
        rounded = wide[split].features().astype(np.float16)
        np.testing.assert_array_equal(narrow[split].features(), rounded)
    distill.train_head(run_copy)
    found = distill.train_student(run_copy, factor=4, baselines=False, epochs=1).students
    assert [one.target for one in found] == [name.removesuffix(".zarr")]


def test_a_student_beside_a_sketch_keeps_its_own_width(run_copy: Path, call: Command) -> None:
    words = ("train-student", "--run", run_copy, "--way", "sketch", "--factor", "4")
    learning = (*words, "--epochs", "1")
    unweighed = ("--kl-weight", "0", "--ce-weight", "0")
    for wrong, told in (
        ((*words, *unweighed), "set --kl-weight or --ce-weight above 0"),
        ((*learning, "--loss", "cosine"), "a sketch is compared by plain squares"),
        ((*learning, "--loss", "mse", "--prefixes", "16"), "and knows no prefixes"),
        (
            (*words, "--ce-weight", "1", "--kl-weight", "0", "--decouple", "8"),
            "set --kl-weight above 0, or --decouple 0",
        ),
        (
            (*learning, "--way", "subspace", "--decouple", "8"),
            "decouple: set --decouple 0, or train",
        ),
    ):
        code, _, err = call(*wrong)
        assert code == 2
        assert told in err
    (student,) = distill.train_student(
        run_copy, way="sketch", kl_weight=1, ce_weight=1, baselines=False, epochs=1
    ).students
    assert student.native
    assert student.target == "gaussian-k8-s0"
    assert student.name.endswith("-gaussian-k8-s0-sketch")
    saved = load_student(run_copy / "students" / student.name / "student.safetensors")
    assert saved.network.head.in_features == student.dim_out == 128
    report = distill.report(run_copy).report
    assert student.name in [one.name for one in report.students if one.native]


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Lesson:
    """A lesson in text, with the teacher's token embeddings."""
    root = tmp_path_factory.mktemp("text")
    folder = bert_folder(root / "bert")
    teacher = load_teacher(f"hf/{folder}", weights="pretrained", max_length=16)
    return replace(lesson(root, dataset("text"), teacher), embeddings=_embeddings(teacher))


@pytest.mark.parametrize(("name", "options"), [("static/8", {}), ("hf/bert", TINY_BERT)])
def test_a_text_student_begins_with_its_teachers_embeddings(
    texts: Lesson, name: str, options: dict[str, int]
) -> None:
    school = open_school(dataset("text"), texts, workers=0, device="cpu", progress=Silent())
    settings = student_settings(name=name, options=options, embeddings="teacher")
    found = school.desk(settings).encoder()
    expected = build(school.blueprint(settings), seed=settings.seed)
    before = [parameter.clone() for parameter in expected.parameters()]
    assert texts.embeddings is not None
    slice_embeddings(expected, texts.embeddings)
    differs = 0
    for one, other, random in zip(found.parameters(), expected.parameters(), before, strict=True):
        assert torch.equal(one, other)
        differs += not torch.equal(one, random)
    assert differs == 1


def test_rows_of_a_teachers_table_that_are_of_no_token_are_left_out(tmp_path: Path) -> None:
    """Tables are often filled up to a round number of rows."""
    folder = bert_folder(tmp_path, vocab_size=4 + len(WORDS) + 9)
    teacher = load_teacher(f"hf/{folder}")
    found = _embeddings(teacher)
    rows = (
        teacher.module.get_parameter("network.embeddings.word_embeddings.weight").detach().numpy()
    )
    np.testing.assert_array_equal(found, rows[: 4 + len(WORDS)])


def test_embeddings_that_nobody_has_are_refused(texts: Lesson, tmp_path: Path) -> None:
    school = open_school(
        dataset("text"), replace(texts, embeddings=None), workers=0, device="cpu", progress=Silent()
    )
    settings = student_settings(name="static/8", options={}, embeddings="teacher")
    with pytest.raises(StageError, match=r"the teacher has none; train it with --embeddings ran"):
        school.desk(settings).encoder()
    filed = settings.model_copy(update={"weights": str(tmp_path / "w.safetensors")})
    with pytest.raises(StageError, match="has its own token embeddings"):
        school.desk(filed)._embeddings()


def test_a_teacher_of_another_vocabulary_is_refused(texts: Lesson) -> None:
    other = replace(texts, embeddings=np.zeros((3, 8), np.float32))
    school = open_school(dataset("text"), other, workers=0, device="cpu", progress=Silent())
    settings = student_settings(name="static/8", options={}, embeddings="teacher")
    with pytest.raises(ValueError, match="the tokenizers of teacher and student differ"):
        school.desk(settings).encoder()
