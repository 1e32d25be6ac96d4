"""Entrants of a comparison: tried out without test rows, taught, weighed, read back."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from distill.comparing.contenders import contender
from distill.comparing.folding import saved_by_folding
from distill.comparing.space import Gallery, crossed
from distill.comparing.text import TextClassifier, tfidf
from distill.config import StudentConfig
from distill.entrants import Network
from distill.errors import StageError
from distill.findings import Cost, Latency, Trial
from distill.lessons import Lesson, Matched
from distill.progress import Silent
from distill.pupils import METHODS
from distill.rivals import RIVALS
from distill.runs import recall
from distill.schooling import School, open_school
from distill.text_entrants import Texts
from distill.views import Views
from students import (
    CheckpointError,
    Classifier,
    Encoder,
    count_parameters,
    read_tensors,
    top_logits,
)
from tests.lessons_examples import (
    SIZES,
    dataset,
    image_teacher,
    lesson,
    student_settings,
    with_pool,
    with_views,
)

DATA = dataset()
TEACHER = image_teacher()


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Lesson:
    return lesson(tmp_path_factory.mktemp("lesson"), DATA, TEACHER)


class Listener(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []
        self.told: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def detail(self, text: str) -> None:
        self.told.append(text)


def school_of(taught: Lesson, progress: Silent | None = None) -> School:
    opened = open_school(DATA, taught, workers=0, device="cpu", progress=progress or Silent())
    return dataclasses.replace(opened, methods={**METHODS, **RIVALS})


def weighed(module: nn.Module, prepared: Mapping[str, Tensor]) -> Cost:
    assert len(prepared["pixel_values"]) == 1
    return Cost(
        name="student", role="student", parameters=count_parameters(module), multiply_adds=10_000,
        bytes_on_disk=0, latencies=(Latency(batch=1, seconds=0.25, device="cpu"),),
    )  # fmt: skip


def entrant(name: str, school: School, **changes: Any) -> Network:
    settings = student_settings(epochs=2, **changes)
    return Network(contender=contender(name), school=school, settings=settings, measure=weighed)


# --- networks ------------------------------------------------------------------------------------


def test_a_trial_reads_no_test_row_and_is_kept(taught: Lesson, tmp_path: Path) -> None:
    school = school_of(taught)
    blind = dataclasses.replace(
        school, splits={name: part for name, part in school.splits.items() if name != "test"}
    )
    one = entrant("dkd", blind)
    drawn = one.defaults() | {"learning_rate": 0.02}
    found = one.try_out(1, drawn, tmp_path / "trial-1")
    assert (found.number, found.settings) == (1, drawn)
    assert 0 < found.accuracy <= 1
    assert not (tmp_path / "trial-1" / "student.safetensors").exists()
    before = (tmp_path / "trial-1" / "trial.json").stat().st_mtime_ns
    assert one.try_out(1, drawn, tmp_path / "trial-1") == found
    assert (tmp_path / "trial-1" / "trial.json").stat().st_mtime_ns == before


def test_a_trial_of_other_settings_is_refused_by_name(taught: Lesson, tmp_path: Path) -> None:
    one = entrant("labels", school_of(taught))
    one.try_out(0, {"learning_rate": 0.01}, tmp_path / "trial-0")
    with pytest.raises(CheckpointError, match=r"trial-0 was made with learning_rate = 0.01"):
        one.try_out(0, {"learning_rate": 0.02}, tmp_path / "trial-0")


def test_a_trial_that_diverges_has_lost(taught: Lesson, tmp_path: Path) -> None:
    listener = Listener()
    one = entrant("features", school_of(taught, listener))
    drawn = {"learning_rate": 1e30, "target_weight": 1.0}
    found = one.try_out(2, drawn, tmp_path / "trial-2")
    assert (found.accuracy, found.loss) == (0.0, None)
    assert listener.said[0].startswith("features, trial 2: ")
    assert recall(tmp_path / "trial-2" / "trial.json", Trial) == found


def test_defaults_are_the_authors_and_the_subspace_s_those_of_the_config(taught: Lesson) -> None:
    school = school_of(taught)
    dkd = entrant("dkd", school, kl_weight=0.25).defaults()
    assert dkd == {
        "learning_rate": 0.01, "target_weight": 1.0, "kl_weight": 8.0, "temperature": 4.0,
    }  # fmt: skip
    ours = entrant("subspace", school, kl_weight=0.25).defaults()
    assert ours["kl_weight"] == 0.25
    assert ours["temperature"] == 2.0


def test_a_seed_answers_test_rows_and_says_how_it_learned(taught: Lesson, tmp_path: Path) -> None:
    school, folder = school_of(taught), tmp_path / "seed-3"
    one = entrant("subspace", school)
    drawn = one.defaults()
    score, predicted = one.teach(3, drawn, folder)
    labels = school.splits["test"].labels
    assert score.seed == 3
    assert score.accuracy == pytest.approx(np.mean(predicted == labels))
    assert score.steps in {5.0, 10.0}  # 41 rows in batches of 8, a last one joined: 5 an epoch
    assert score.loss is not None
    # recall by hand: the student's rows among the teacher's, whose neighbours are to be found
    pupil = school.reopen("subspace", one._whole(drawn, 3), folder)
    sides = {name: part.targets.features() for name, part in school.splits.items()}
    train, test = school.splits["train"], school.splits["test"]
    wanted = crossed(
        Gallery(sides["train"], train.ids, train.labels),
        Gallery(school.rows(pupil, "test"), test.ids, test.labels),
        sides["test"],
    )
    assert score.recall == wanted.recall
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    again = one.teach(3, drawn, folder)
    assert again.score == score
    assert before == {path: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_only_students_of_the_space_have_a_recall(taught: Lesson, tmp_path: Path) -> None:
    one = entrant("rdimkd", school_of(taught))
    assert one.teach(1, one.defaults(), tmp_path / "rdimkd").score.recall is None
    behind = entrant("subspace", school_of(taught), projector=4, head="fresh", ce_weight=1.0)
    assert behind.teach(1, behind.defaults(), tmp_path / "projector").score.recall is None


def test_what_is_shipped_is_folded_and_the_barrier_is_of_two_seeds(
    taught: Lesson, tmp_path: Path
) -> None:
    school = school_of(taught)
    one = entrant("subspace", school)
    drawn = one.defaults()
    folders = {seed: tmp_path / f"seed-{seed}" for seed in (1, 2)}
    for seed, folder in folders.items():
        one.teach(seed, drawn, folder)
    found = one.ship(drawn, folders, tmp_path)
    student = school.reopen("subspace", one._whole(drawn, 1), folders[1]).student
    # a body of 8 numbers, k = 5, 3 classes: 8 x 5 + 5 + 5 x 3 apart, 8 x 3 together
    assert found.parameters == count_parameters(student) - (40 + 5 + 15 - 24)
    assert found.multiply_adds == 10_000 - (40 + 15 - 24)
    assert found.latency == 0.25
    assert found.barrier is not None
    assert found.barrier > 0.01  # two seeds of such a network lie in basins of their own
    assert one.ship(drawn, folders, tmp_path) == found
    (tmp_path / "alone").mkdir()
    alone = one.ship(drawn, {1: folders[1]}, tmp_path / "alone")
    assert alone.barrier is None
    twins = one.ship(drawn, {1: folders[1], 2: folders[1]}, tmp_path / "twins")
    assert twins.barrier == pytest.approx(0.0, abs=1e-5)


def stored(name: str, school: School, **changes: Any) -> int:
    one = entrant(name, school, **changes)
    return one._stored(one._whole(one.defaults(), 1))


def test_stored_bytes_by_hand(taught: Lesson) -> None:
    school = school_of(taught)
    dim = taught.features["train"].spec.dim  # float32, as the 5 projected numbers
    wanted = {
        "subspace": 20, "labels": 8, "logits": 12 + 8, "logit-mse": 12, "dkd": 12 + 8,
        "features": 4 * dim + 8, "vkd": 4 * dim + 8, "simkd": 4 * dim, "rdimkd": 20 + 8,
        "online": 0,
    }  # fmt: skip
    assert {name: stored(name, school) for name in wanted} == wanted
    assert stored("subspace", school, ce_weight=1.0) == 28
    assert stored("subspace", school, kl_weight=1.0) == 20  # its classes are read off the rows


def test_every_stored_view_is_counted_and_its_label_once(taught: Lesson, tmp_path: Path) -> None:
    views = Views(count=3, augment="crop-flip", seed=5)
    school = school_of(with_views(tmp_path, DATA, TEACHER, taught, views))
    assert stored("subspace", school) == 3 * 20
    assert stored("logits", school) == 3 * 12 + 8
    assert stored("subspace", school, views=2) == 2 * 20
    assert stored("labels", school) == 8


def test_fewer_views_take_fewer_bytes_of_the_same_inputs(taught: Lesson, tmp_path: Path) -> None:
    views = Views(count=3, augment="crop-flip", seed=5)
    school = school_of(with_views(tmp_path, DATA, TEACHER, taught, views))
    every = school.material(student_settings())
    assert stored("logits@2", school) == 2 * 12 + 8
    assert stored("subspace@1", school) == 20
    one = entrant("subspace@2", school)
    seen = school.material(one._whole(one.defaults(), 1))
    assert seen.inputs is every.inputs  # so that nothing is prepared anew
    learned = np.concatenate([seen.rows_of(epoch) for epoch in (1, 2, 3, 4)])
    assert set(learned % 3) == {0, 1}
    assert len(seen.rows_of(1)) == SIZES["train"]
    for asked, told in (
        ("logits@4", "4 views of each"),
        ("logits@x", "got 'x'"),
        ("@2", "called ''"),
    ):
        with pytest.raises(StageError, match=told):
            stored(asked, school)
    with pytest.raises(StageError, match="online learns no stored views"):
        entrant("online@2", school)


def test_of_logits_only_the_highest_chances_are_charged(taught: Lesson) -> None:
    school = school_of(taught)
    top = entrant("top-logits", school)
    assert top.contender.defaults["top_logits"] == 10
    assert (
        top._stored(top._whole(top.defaults(), 1)) == 12 + 8
    )  # all 3 classes: no more than logits
    fewer = top._whole({**top.defaults(), "top_logits": 2}, 1)
    assert top._stored(fewer) == 2 * (4 + 2) + 8
    found = school.methods["logits"].make(school.desk(fewer)).targets["logits"](np.arange(4))
    whole = school.methods["logits"].make(school.desk(replace_top(fewer, 0))).targets["logits"]
    np.testing.assert_allclose(found, top_logits(whole(np.arange(4)).numpy(), 2), rtol=1e-6)
    assert school.made_by("logits", fewer) != school.made_by("logits", replace_top(fewer, 0))
    two = entrant("top-logits:2@0", school)
    assert two.contender.name == "top-logits:2@0"
    assert two.contender.about == "the 2 highest chances of a row, and labels; no views"
    named = two._whole(two.defaults(), 1)
    assert named.top_logits == 2
    assert two._stored(named) == 2 * (4 + 2) + 8
    for asked in ("top-logits:", "top-logits:0", "top-logits:pca"):
        with pytest.raises(StageError, match="how many chances of a row are kept"):
            entrant(asked, school)


def replace_top(settings: StudentConfig, top: int) -> StudentConfig:
    return settings.model_copy(update={"top_logits": top})


def test_all_learn_the_pool_but_labels_alone(taught: Lesson, tmp_path: Path) -> None:
    pool = dataset(fingerprint="pool")
    school = school_of(with_pool(tmp_path, pool, TEACHER, taught))
    every = 2 * SIZES["train"]
    for name in ("logits", "dkd", "features", "rdimkd", "simkd", "labels"):
        one = entrant(name, school)
        drawn = one.defaults()
        pupil = school.methods[one.contender.method].make(school.desk(one._whole(drawn, 1)))
        material = pupil.material or school.material(one.settings)
        assert material.rows == (SIZES["train"] if name == "labels" else every)
        rows = np.array([0, every - 1]) if name != "labels" else np.array([0, 1])
        targets = {key: take(rows) for key, take in pupil.targets.items()}
        outputs = pupil.network.eval()(
            school.lesson.prepare([material.inputs[int(row)] for row in rows])
        )
        assert torch.isfinite(pupil.loss(outputs, targets))


def test_another_target_of_the_same_school_shares_its_inputs(
    taught: Lesson, tmp_path: Path
) -> None:
    other = lesson(tmp_path, DATA, TEACHER)
    turned = dataclasses.replace(
        taught, target="pca-k5-s0", targets={**other.targets}, head=other.head
    )
    school = school_of(taught)
    settings = student_settings()
    school.material(settings)
    aimed = school.aiming_at(turned)
    assert aimed.material(settings).parts[0].inputs is school.material(settings).parts[0].inputs
    assert aimed.material(settings).target_stores[0] is other.targets["train"]
    assert aimed.feed("validation") is school.feed("validation")
    assert aimed.made_by("labels", settings) == school.made_by("labels", settings)


# --- folding -------------------------------------------------------------------------------------


def classifier(neck: nn.Module, inner: int, classes: int) -> Classifier:
    body = nn.Linear(2, 3)
    return Classifier(Encoder(body, neck, dim_out=inner), nn.Linear(inner, classes))


@pytest.mark.parametrize(
    ("neck", "inner", "numbers", "adds"),
    [
        pytest.param(nn.Linear(6, 4), 4, 24 + 4 + 12 - 18, 24 + 12 - 18, id="a linear neck"),
        pytest.param(nn.Linear(6, 4, bias=False), 4, 18, 18, id="without a bias"),
        pytest.param(nn.Linear(6, 1), 1, 0, 0, id="a bottleneck is cheaper as it is"),
        pytest.param(nn.Identity(), 6, 0, 0, id="none"),
        pytest.param(
            nn.Sequential(nn.Linear(9, 6), nn.ReLU(), nn.Linear(6, 4)), 4, 22, 18, id="a projector"
        ),
        pytest.param(nn.Sequential(nn.Linear(9, 4), nn.ReLU()), 4, 0, 0, id="ends in no matrix"),
    ],
)
def test_folding_by_hand(neck: nn.Module, inner: int, numbers: int, adds: int) -> None:
    assert saved_by_folding(classifier(neck, inner, 3)) == (numbers, adds)


# --- texts ---------------------------------------------------------------------------------------


def texts() -> dict[str, Matched]:
    data = dataset("text")
    return {
        name: Matched(
            name=name, ids=split.ids, labels=split.labels, inputs=list(split.inputs),
            targets=None, features=None,  # type: ignore[arg-type]
        )
        for name, split in data.splits.items()
        if split.labels is not None
    }  # fmt: skip


class Counting:
    def __init__(self) -> None:
        self.fitted = 0

    def __call__(self, words: Any, labels: Any, *, settings: dict[str, Any]) -> TextClassifier:
        self.fitted += 1
        return tfidf(words, labels, classes=3, settings=settings)


def text_entrant(fit: Counting, **made_by: Any) -> Texts:
    splits = texts()
    return Texts(
        contender=contender("tfidf"), splits=splits, made_by=made_by,
        teachers=splits["test"].labels, fit=fit,
    )  # fmt: skip


def test_a_text_rival_is_fitted_once_for_all_its_seeds(tmp_path: Path) -> None:
    fit = Counting()
    one = text_entrant(fit)
    drawn = one.defaults()
    trial = one.try_out(0, drawn, tmp_path / "trial-0")
    assert trial.accuracy > 0.9
    scores = [one.teach(seed, drawn, tmp_path / f"seed-{seed}") for seed in (1, 2)]
    assert fit.fitted == 1
    assert scores[0].predicted.tolist() == scores[1].predicted.tolist()
    assert scores[0].score.agreement == scores[0].score.accuracy > 0.9
    assert [found.score.seed for found in scores] == [1, 2]
    tensors, _ = read_tensors(tmp_path / "seed-1" / "predictions.safetensors")
    assert tensors["predicted"].tolist() == scores[0].predicted.tolist()
    shipped = one.ship(drawn, {}, tmp_path)
    assert shipped.stored_bytes == 8
    assert shipped.barrier is None
    assert 0 < shipped.latency < 1
    # another session reads everything back
    new = Counting()
    other = text_entrant(new)
    assert other.try_out(0, drawn, tmp_path / "trial-0") == trial
    assert other.teach(1, drawn, tmp_path / "seed-1").score == scores[0].score
    assert other.ship(drawn, {}, tmp_path) == shipped
    assert new.fitted == 0


def test_a_text_rival_of_other_data_is_fitted_anew(tmp_path: Path) -> None:
    fit = Counting()
    one = text_entrant(fit, dataset="a")
    one.teach(1, one.defaults(), tmp_path / "seed-1")
    text_entrant(fit, dataset="b").teach(1, one.defaults(), tmp_path / "seed-1")
    assert fit.fitted == 2
