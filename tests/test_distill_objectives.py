"""What a subspace-native student minimises: targets in other coordinates, heads, prefixes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distill.config import StudentConfig
from distill.desk import Desk, Pupil
from distill.errors import StageError
from distill.lessons import Lesson
from distill.objectives import WithHead, subspace
from distill.progress import Silent
from distill.schooling import School, open_school
from distill.views import Views
from students import (
    COORDINATES,
    Encoder,
    StudentError,
    class_means,
    fit_head,
    forward_rows,
    load_student,
    make_feed,
    whiten,
)
from teachers import Teacher
from tests.lessons_examples import (
    dataset,
    image_teacher,
    lesson,
    student_settings,
    with_pool,
    with_views,
)

DATA = dataset()
POOL = dataset(fingerprint="pool")
VIEWS = Views(count=2, augment="crop-flip", seed=5)


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return image_teacher()


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory, teacher: Teacher) -> Lesson:
    folder = tmp_path_factory.mktemp("lesson")
    plain = lesson(folder, DATA, teacher)
    return with_pool(folder, POOL, teacher, with_views(folder / "v", DATA, teacher, plain, VIEWS))


@pytest.fixture(scope="module")
def school(taught: Lesson) -> School:
    return open_school(DATA, taught, workers=0, device="cpu", progress=Silent())


def desk(school: School, **changes: Any) -> Desk:
    return school.desk(settings_of(**changes))


def settings_of(**changes: Any) -> StudentConfig:
    return student_settings(**({"views": 0, "pool": False} | changes))


def all_rows(pupil: Pupil, rows: int) -> np.ndarray:
    return pupil.targets["targets"](np.arange(rows)).numpy()


def answers(pupil: Pupil, taught: Lesson) -> tuple[np.ndarray, np.ndarray]:
    """What the student says of the test examples: its rows, its logits."""
    feed = make_feed(DATA.splits["test"].inputs, taught.prepare, {})
    return forward_rows(pupil.encoder, feed), forward_rows(pupil.student, feed)


@pytest.mark.parametrize("head", ["carried", "tuned"])
@pytest.mark.parametrize("units", ["raw", "standardised", "whitened"])
def test_a_folded_student_answers_in_the_targets_own_units(
    school: School, taught: Lesson, units: str, head: str
) -> None:
    pupil = subspace(desk(school, targets=units, head=head, ce_weight=1.0))
    before, logits = answers(pupil, taught)
    pupil.fold()
    after, same_logits = answers(pupil, taught)
    store = taught.targets["train"].features()
    expected = before if units == "raw" else COORDINATES[units]([store]).undo(before)
    np.testing.assert_allclose(after, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(same_logits, logits, rtol=1e-3, atol=1e-3)
    # and its head is again the one that reads the targets
    np.testing.assert_allclose(taught.head.logits(after), logits, rtol=1e-3, atol=1e-3)


def test_whitened_targets_are_those_of_the_transform(school: School, taught: Lesson) -> None:
    store = taught.targets["train"].features()
    found = all_rows(subspace(desk(school, targets="whitened")), len(store))
    np.testing.assert_allclose(found, whiten([store]).apply(store), atol=1e-5)


def test_wholly_shrunk_targets_are_class_means_and_the_pool_keeps_its_own(
    school: School, taught: Lesson
) -> None:
    pupil = subspace(desk(school, shrink=1.0, pool=True))
    store, labels = taught.targets["train"].features(), taught.targets["train"].labels()
    means = class_means([(store, labels)], classes=3)
    found = all_rows(pupil, 2 * len(store))
    np.testing.assert_allclose(found[: len(store)], means[labels], atol=1e-5)
    np.testing.assert_allclose(
        found[len(store) :], taught.targets["unlabeled"].features(), atol=1e-6
    )


def test_averaged_targets_are_the_mean_of_an_examples_views(school: School, taught: Lesson) -> None:
    pupil = subspace(desk(school, views=2, average_views=True))
    store = taught.targets["views"].features()
    found = all_rows(pupil, len(store))
    expected = (store[0::2] + store[1::2]) / 2
    np.testing.assert_allclose(found[0::2], expected, atol=1e-5)
    np.testing.assert_array_equal(found[0::2], found[1::2])


def test_the_size_of_the_targets_is_the_size_of_the_students_answers(school: School) -> None:
    pupil = subspace(desk(school, shrink=0.5))
    rows = all_rows(pupil, 41).astype(np.float64)
    expected = np.sqrt(np.square(rows - rows.mean(axis=0)).mean())
    assert float(pupil.encoder.scale) == pytest.approx(expected, rel=1e-5)


def test_a_carried_head_is_frozen_a_tuned_one_begins_there_and_a_fresh_one_does_not(
    school: School, taught: Lesson
) -> None:
    heads = {
        kind: subspace(desk(school, head=kind, kl_weight=1.0)).student.head
        for kind in ("carried", "tuned", "fresh")
    }
    for kind in ("carried", "tuned"):
        np.testing.assert_array_equal(heads[kind].weight.detach(), taught.head.weight)
    assert [heads[kind].weight.requires_grad for kind in heads] == [False, True, True]
    assert not np.allclose(heads["fresh"].weight.detach(), taught.head.weight)
    learning = subspace(desk(school, head="tuned", kl_weight=1.0))
    assert isinstance(learning.network, WithHead)
    assert learning.network.head is learning.student.head


def test_a_projector_helps_only_while_the_student_learns(school: School, taught: Lesson) -> None:
    settings = {"projector": 16, "head": "fresh", "ce_weight": 1.0}
    pupil = subspace(desk(school, **settings))
    assert isinstance(pupil.network, WithHead)
    example = taught.prepare([DATA.splits["train"].inputs[0]])
    pupil.network.eval()
    outputs = pupil.network(example)
    rows = pupil.encoder(example)
    projector, scale = pupil.network.projector, pupil.encoder.scale
    torch.testing.assert_close(outputs["rows"], scale * projector(rows / scale))
    torch.testing.assert_close(outputs["logits"], pupil.student.head(rows))
    kept = {id(parameter) for parameter in pupil.student.parameters()}
    assert not kept & {id(parameter) for parameter in projector.parameters()}
    again = subspace(desk(school, **settings))
    assert isinstance(again.network, WithHead)
    for one, other in zip(
        projector.parameters(), again.network.projector.parameters(), strict=True
    ):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"head": "tuned"}, "a tuned head learns from labels or logits: set --kl-weight"),
        ({"head": "fresh"}, "a fresh head learns from labels or logits"),
        ({"projector": 8}, "behind a projector .* which a carried head reads; use --head fresh"),
        (
            {"prefixes": (2,), "head": "fresh", "ce_weight": 1.0},
            "prefixes are read by heads of the teacher's space",
        ),
    ],
)
def test_heads_that_nothing_teaches_are_refused(
    school: School, changes: dict[str, Any], told: str
) -> None:
    with pytest.raises(StageError, match=told):
        subspace(desk(school, **changes))


def test_a_prefix_as_wide_as_the_student_is_refused(school: School) -> None:
    with pytest.raises(StudentError, match="a prefix of 5 numbers is no part of a student's 5"):
        subspace(desk(school, prefixes=(5,)))


def test_prefixes_have_heads_fitted_on_the_targets_first_numbers(
    school: School, taught: Lesson
) -> None:
    pupil = subspace(desk(school, prefixes=(3, 2)))
    assert pupil.prefixes is not None
    train, validation = taught.targets["train"], taught.targets["validation"]
    expected = fit_head(
        train.features()[:, :2],
        train.labels(),
        validation.features()[:, :2],
        validation.labels(),
        classes=3,
        l2=(taught.head.l2,),
        max_iterations=500,
    )
    assert list(pupil.prefixes) == [3, 2]
    np.testing.assert_allclose(pupil.prefixes[2].weight, expected.weight, atol=1e-4)


def test_a_student_of_prefixes_is_scored_and_shipped_with_a_head_for_each(
    tmp_path: Path, school: School, taught: Lesson
) -> None:
    settings = settings_of(prefixes=(2, 3), epochs=6, kl_weight=1.0, targets="whitened")
    record = school.teach("subspace", settings, tmp_path / "student")
    assert [prefix.dim_out for prefix in record.prefixes] == [2, 3]
    saved = load_student(tmp_path / "student" / "student.safetensors")
    assert list(saved.prefixes) == [2, 3]
    feed = make_feed(DATA.splits["test"].inputs, taught.prepare, {})
    rows = torch.from_numpy(forward_rows(saved.network.encoder, feed))
    labels = DATA.splits["test"].labels
    for prefix in record.prefixes:
        found = saved.prefixes[prefix.dim_out](rows[:, : prefix.dim_out]).argmax(dim=1).numpy()
        assert float((found == labels).mean()) == pytest.approx(prefix.test.accuracy)


def test_every_setting_of_the_objective_trains_and_makes_another_student(
    tmp_path: Path, school: School
) -> None:
    """What decides the result stands in the card: none of these is taken for another."""
    cards = set()
    several: tuple[dict[str, Any], ...] = (
        {},
        {"loss": "fisher"},
        {"loss": "fisher", "fisher_ridge": 1.0},
        {"targets": "standardised"},
        {"shrink": 0.3},
        {"views": 2},
        {"views": 2, "average_views": True},
        {"views": 1, "pool": True},
        {"head": "tuned", "ce_weight": 1.0, "pool": True},
        {"head": "fresh", "ce_weight": 1.0, "projector": 8},
        {"calibrate": True},
    )
    for number, changes in enumerate(several):
        folder = tmp_path / str(number)
        record = school.teach("subspace", settings_of(epochs=1, **changes), folder)
        assert 0 <= record.test.accuracy <= 1
        made_by = load_student(folder / "student.safetensors").made_by
        cards.add(repr(sorted(made_by.items())))
    assert len(cards) == len(several)


def test_calibrated_heads_never_do_worse_on_the_rows_they_were_fitted_on(
    tmp_path: Path, school: School, taught: Lesson
) -> None:
    losses = {}
    for calibrate in (False, True):
        folder = tmp_path / str(calibrate)
        record = school.teach("subspace", settings_of(calibrate=calibrate), folder)
        network = load_student(folder / "student.safetensors").network
        feed = make_feed(DATA.splits["validation"].inputs, taught.prepare, {})
        logits = torch.from_numpy(forward_rows(network, feed)).double()
        labels = torch.from_numpy(DATA.splits["validation"].labels)
        losses[calibrate] = float(torch.nn.functional.cross_entropy(logits, labels))
    assert losses[True] <= losses[False]
    assert "undone in its head on validation rows" in record.notes[-1]


def test_notes_say_what_the_student_saw(tmp_path: Path, school: School) -> None:
    told = {
        name: school.teach("subspace", settings_of(epochs=1, **changes), tmp_path / name).notes[0]
        for name, changes in (
            ("clean", {}),
            ("views", {"views": 2}),
            ("pool", {"views": 2, "pool": True}),
        )
    }
    assert "clean inputs" in told["clean"]
    assert told["views"].startswith("learned 2 stored views of every example")
    assert told["pool"].endswith("41 unlabeled examples beside them")


def test_labels_alone_learn_nothing_of_the_pool(tmp_path: Path, school: School) -> None:
    with_it, without = (
        school.teach("labels", settings_of(pool=pool), tmp_path / str(pool))
        for pool in (True, False)
    )
    one, other = (
        load_student(tmp_path / str(pool) / "student.safetensors").network.state_dict()
        for pool in (True, False)
    )
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert with_it.test == without.test


def test_encoders_without_a_neck_come_back_from_their_file(tmp_path: Path, school: School) -> None:
    school.teach("logits", settings_of(), tmp_path / "student")
    saved = load_student(tmp_path / "student" / "student.safetensors")
    assert isinstance(saved.network.encoder, Encoder)
    assert isinstance(saved.network.encoder.neck, torch.nn.Identity)
    assert saved.network.head.in_features == saved.network.encoder.dim_out == 8


def test_the_classes_of_a_row_are_read_off_its_k_numbers_alone(
    school: School, taught: Lesson
) -> None:
    pupil = subspace(desk(school, kl_weight=1.0, targets="whitened"))
    store = taught.targets["train"].features()
    found = pupil.targets["logits"](np.arange(len(store))).numpy()
    np.testing.assert_allclose(found, store @ taught.head.weight.T + taught.head.bias, atol=1e-4)


def flat(dim_out: int) -> torch.nn.Module:
    """A network of one's own: the mean colour of an image, and a linear layer."""

    class Flat(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = torch.nn.Linear(3, dim_out)

        def forward(self, prepared: dict[str, torch.Tensor]) -> torch.Tensor:
            rows: torch.Tensor = self.last(prepared["pixel_values"].mean(dim=(2, 3)))
            return rows

    return Flat()


def test_a_student_of_ones_own_is_taught_and_read_back(
    tmp_path: Path, school: School, taught: Lesson
) -> None:
    settings = settings_of(name=f"{__name__}:flat", options={}, epochs=2)
    record = school.teach("subspace", settings, tmp_path / "student")
    network = load_student(tmp_path / "student" / "student.safetensors").network
    feed = make_feed(DATA.splits["test"].inputs, taught.prepare, {})
    found = forward_rows(network, feed).argmax(axis=1)
    assert float((found == DATA.splits["test"].labels).mean()) == record.test.accuracy
    with pytest.raises(StageError, match=r"could hold the units of whitened targets.*--targets r"):
        subspace(desk(school, name=f"{__name__}:flat", options={}, targets="whitened"))
