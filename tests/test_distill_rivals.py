"""Rival ways to teach: each learns what it says, from the same weights, and is read back."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distill.config import StudentConfig
from distill.lessons import Lesson, Material
from distill.progress import Silent
from distill.pupils import METHODS
from distill.rivals import RIVALS, Answers, online
from distill.schooling import School, open_school
from distill.stored import logits_of, spread, spread_of
from distill.views import Views
from students import OrthogonalProjector, random_projector
from tests.lessons_examples import (
    PROJECTION,
    SIZES,
    dataset,
    image_teacher,
    lesson,
    student_settings,
)

DATA = dataset()
TEACHER = image_teacher()
NEW = sorted(RIVALS)
WEIGHTS = {"target_weight": 1.0, "kl_weight": 1.0, "ce_weight": 1.0}


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Lesson:
    return lesson(tmp_path_factory.mktemp("lesson"), DATA, TEACHER)


@pytest.fixture(scope="module")
def school(taught: Lesson) -> School:
    opened = open_school(DATA, taught, workers=0, device="cpu", progress=Silent())
    methods = {**METHODS, **RIVALS}
    methods["online"] = online(
        opened.splits["train"],
        "image",
        Views(count=1, augment="crop-flip"),
        embed=lambda inputs: TEACHER.embed(TEACHER.prepare(inputs)).features,
        project=lambda rows: rows[:, : len(PROJECTION)] @ PROJECTION,
    )
    return dataclasses.replace(opened, methods=methods)


def settings(**changes: Any) -> StudentConfig:
    return student_settings(**(WEIGHTS | changes))


def first_batch(school: School, method: str, **changes: Any) -> tuple[Any, Any, Any]:
    """A pupil, what its network gives for the first rows, and their targets."""
    pupil = school.methods[method].make(school.desk(settings(**changes)))
    rows = np.arange(8)
    prepared = school.lesson.prepare([school.splits["train"].inputs[int(r)] for r in rows])
    pupil.network.train()
    torch.manual_seed(0)
    return pupil, pupil.network(prepared), {n: take(rows) for n, take in pupil.targets.items()}


def flat(module: torch.nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


@pytest.mark.parametrize("method", NEW)
def test_all_begin_with_the_same_body_of_the_same_seed(school: School, method: str) -> None:
    reference = METHODS["labels"].make(school.desk(settings()))
    pupil = RIVALS[method].make(school.desk(settings()))
    other = RIVALS[method].make(school.desk(settings(seed=1)))
    assert torch.equal(flat(pupil.encoder.body), flat(reference.encoder.body))
    assert not torch.equal(flat(other.encoder.body), flat(reference.encoder.body))
    if method != "simkd":  # whose head is the teacher's
        assert torch.equal(flat(pupil.student.head), flat(reference.student.head))
        assert pupil.encoder.dim_out == reference.encoder.dim_out


@pytest.mark.parametrize("method", NEW)
def test_every_part_that_learns_gets_a_gradient(school: School, method: str) -> None:
    pupil, outputs, targets = first_batch(school, method)
    pupil.loss(outputs, targets).backward()
    for name, parameter in pupil.network.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name
    fixed = [name for name, p in pupil.network.named_parameters() if not p.requires_grad]
    assert fixed == (["projector.weight"] if method == "rdimkd" else [])


def test_full_features_are_the_teacher_s_in_units_of_their_spread(
    school: School, taught: Lesson
) -> None:
    pupil, outputs, targets = first_batch(school, "features", ce_weight=0.0, target_weight=2.0)
    stored = taught.features["train"].features()[:8]
    np.testing.assert_array_equal(targets["targets"].numpy(), stored)
    assert pupil.network.projector.out_features == stored.shape[1]
    wanted = stored / spread(taught.features["train"])
    apart = outputs["rows"].detach().numpy() - wanted
    assert float(pupil.loss(outputs, targets).detach()) == pytest.approx(
        2 * np.mean(apart**2), rel=1e-4
    )


def test_the_sketch_learns_labels_rows_and_logits_of_k_stored_numbers(
    school: School, taught: Lesson
) -> None:
    """Its loss by hand: squares behind the projector, T² KL to the projected head, entropy."""
    pupil, outputs, targets = first_batch(
        school, "sketch", target_weight=2.0, kl_weight=3.0, ce_weight=0.5, temperature=4.0
    )
    stored = taught.targets["train"].features()[:8]
    np.testing.assert_array_equal(targets["targets"].numpy(), stored)
    said = stored @ taught.head.weight.T + taught.head.bias
    np.testing.assert_allclose(targets["logits"], said, atol=1e-5)
    apart = outputs["rows"].detach().numpy() - stored / spread(taught.targets["train"])
    own = outputs["logits"].detach()
    p, q = (torch.softmax(one / 4, dim=1) for one in (torch.from_numpy(said), own))
    divergence = float((p * (p.log() - q.log())).sum(dim=1).mean())
    entropy = float(torch.nn.functional.cross_entropy(own, targets["labels"]))
    expected = 2 * float(np.mean(apart**2)) + 3 * 16 * divergence + 0.5 * entropy
    assert float(pupil.loss(outputs, targets).detach()) == pytest.approx(expected, rel=1e-4)
    assert pupil.network.projector.out_features == 5
    assert pupil.student.encoder.dim_out != 5
    assert set(dict(pupil.student.named_children())) == {"encoder", "head"}


def test_the_sketch_learns_what_it_says_of_classes_as_dkd_does(
    school: School, taught: Lesson
) -> None:
    pupil, outputs, targets = first_batch(
        school, "sketch", target_weight=0.0, kl_weight=3.0, ce_weight=0.0, temperature=4.0,
        decouple=5.0,
    )  # fmt: skip
    own, labels = outputs["logits"].detach().double() / 4, targets["labels"].numpy()
    told = targets["logits"].double() / 4
    total = 0.0
    for found, aim, label in zip(
        own.softmax(1).numpy(), told.softmax(1).numpy(), labels, strict=True
    ):
        others = [np.delete(one, label) for one in (found, aim)]
        q, p = (np.array([one[label], 1 - one[label]]) for one in (found, aim))
        g, f = (one / one.sum() for one in others)
        total += (p * np.log(p / q)).sum() + 5 * (f * np.log(f / g)).sum()
    expected = 3 * 16 * total / len(labels)
    assert float(pupil.loss(outputs, targets).detach()) == pytest.approx(expected, rel=1e-4)
    plain = dataclasses.replace(pupil.loss, decouple=0.0)
    assert float(plain(outputs, targets).detach()) != pytest.approx(expected, rel=1e-2)


def test_rows_without_a_label_take_the_teachers_class(school: School) -> None:
    pupil, outputs, targets = first_batch(
        school, "sketch", kl_weight=1.0, ce_weight=0.0, decouple=8.0
    )
    none = {**targets, "labels": torch.full_like(targets["labels"], -1)}
    its = {**targets, "labels": targets["logits"].argmax(dim=1)}
    torch.testing.assert_close(pupil.loss(outputs, none), pupil.loss(outputs, its))


def test_a_sketch_that_is_not_decoupled_is_made_by_what_it_was_before(school: School) -> None:
    settings = StudentConfig(way="sketch", kl_weight=1.0)
    assert "decouple" not in school.made_by("sketch", settings)
    told = settings.model_copy(update={"decouple": 8.0})
    assert school.made_by("sketch", told)["decouple"] == 8.0


def test_the_sketch_without_logits_reads_none(school: School) -> None:
    _, _, targets = first_batch(school, "sketch", kl_weight=0.0)
    assert set(targets) == {"targets", "labels"}


def test_vkd_has_an_orthogonal_projector_to_the_full_width(school: School) -> None:
    pupil, outputs, targets = first_batch(school, "vkd")
    assert isinstance(pupil.network.projector, OrthogonalProjector)
    assert outputs["rows"].shape == targets["targets"].shape
    features = torch.randn(3, pupil.student.encoder.dim_out)
    lengths = (features.norm(), pupil.network.projector(features).detach().norm())
    torch.testing.assert_close(*lengths)


def test_rdimkd_puts_both_sides_behind_random_maps(school: School, taught: Lesson) -> None:
    pupil, outputs, targets = first_batch(school, "rdimkd")
    features = taught.features["train"].features()
    reduce = random_projector(features.shape[1], 5, seed=0).weight.numpy().T
    np.testing.assert_allclose(targets["targets"], (features @ reduce)[:8], atol=1e-5)
    assert outputs["rows"].shape == (8, 5)
    assert pupil.student.encoder.dim_out != 5
    other, _, same = first_batch(school, "rdimkd", seed=1)
    assert torch.equal(same["targets"], targets["targets"])
    assert not torch.equal(other.network.projector.weight, pupil.network.projector.weight)
    plain = {"rows": targets["targets"] / pupil.loss.scale, "logits": outputs["logits"]}
    entropy = torch.nn.functional.cross_entropy(outputs["logits"], targets["labels"])
    torch.testing.assert_close(pupil.loss(plain, targets), entropy)
    assert pupil.loss.scale == pytest.approx(spread_of([features @ reduce]))


def test_simkd_ends_in_the_teacher_s_own_head(school: School, taught: Lesson) -> None:
    pupil, outputs, targets = first_batch(school, "simkd")
    np.testing.assert_array_equal(pupil.student.head.weight, taught.full_head.weight)
    assert not pupil.student.head.weight.requires_grad
    assert outputs.shape == targets["targets"].shape == (8, taught.full_head.weight.shape[1])
    # a student that gave the teacher's rows would say what the teacher says
    with torch.no_grad():
        said = pupil.student.head(targets["targets"]).numpy()
    np.testing.assert_allclose(
        said, logits_of(taught.full_head, taught.features["train"])[:8], atol=1e-4
    )


@pytest.mark.parametrize("method", ["logits", "logit-mse", "dkd"])
def test_logits_are_the_full_head_s(school: School, taught: Lesson, method: str) -> None:
    pupil, outputs, targets = first_batch(school, method)
    wanted = logits_of(taught.full_head, taught.features["train"])[:8]
    np.testing.assert_allclose(targets["logits"], wanted, atol=1e-5)
    assert outputs.shape == wanted.shape
    # exactly those logits leave nothing to learn from the teacher
    perfect = pupil.loss(targets["logits"], {**targets, "labels": torch.full((8,), -1)})
    assert float(perfect) == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize(
    ("method", "name"),
    [("logits", "kl_weight"), ("dkd", "target_weight"), ("features", "target_weight"),
     ("vkd", "target_weight"), ("rdimkd", "ce_weight")],
)  # fmt: skip
def test_weights_of_the_settings_weigh_the_terms(school: School, method: str, name: str) -> None:
    _, outputs, targets = first_batch(school, method)
    make = school.methods[method].make
    none, once, thrice = (
        float(make(school.desk(settings(**{name: weight}))).loss(outputs, targets).detach())
        for weight in (0.0, 1.0, 3.0)
    )
    assert thrice - none == pytest.approx(3 * (once - none), rel=1e-3)
    assert once > none + 1e-4


@pytest.mark.parametrize("method", [*NEW, "online"])
def test_a_rival_is_taught_and_read_back(school: School, method: str, tmp_path: Path) -> None:
    asked = settings(epochs=2, kl_weight=0.0 if method == "online" else 1.0)
    found = school.teach(method, asked, tmp_path / method)
    assert found.test.rows == SIZES["test"]
    pupil = school.reopen(method, asked, tmp_path / method)
    assert not pupil.student.training
    rows = school.rows(pupil, "test")
    bias = pupil.student.head.bias.detach().numpy()
    said = (rows @ pupil.student.head.weight.detach().numpy().T + bias).argmax(axis=1)
    assert np.mean(said == school.splits["test"].labels) == pytest.approx(found.test.accuracy)
    lines = (tmp_path / method / "metrics.jsonl").read_text().splitlines()
    losses = [json.loads(line)["loss"] for line in lines]
    assert losses[1] < losses[0]


# --- the teacher online --------------------------------------------------------------------------


class Listed:
    """A teacher that gives an input's own numbers and counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, inputs: Sequence[Any]) -> np.ndarray:
        self.asked += 1
        return np.array([[float(one), 1.0] for one in inputs], np.float32)


def test_the_teacher_is_asked_once_a_batch() -> None:
    embed = Listed()
    answers = Answers([10, 11, 12, 13], embed)
    rows = np.array([3, 1])
    assert answers(rows).tolist() == [[13.0, 1.0], [11.0, 1.0]]
    answers(rows)
    assert embed.asked == 1
    assert answers(np.array([1, 3])).tolist() == [[11.0, 1.0], [13.0, 1.0]]
    assert embed.asked == 2


def test_online_targets_are_the_teacher_s_rows_of_the_very_views(
    school: School, taught: Lesson
) -> None:
    pupil = school.methods["online"].make(school.desk(settings(epochs=3, kl_weight=1.0)))
    material = pupil.material
    assert isinstance(material, Material)
    rows = material.rows_of(2)[:6]
    views = [material.inputs[int(row)] for row in rows]
    features = TEACHER.embed(TEACHER.prepare(views)).features
    aims = features[:, : len(PROJECTION)] @ PROJECTION
    np.testing.assert_allclose(pupil.targets["targets"](rows), aims, atol=1e-6)
    wanted = taught.head.logits(aims)
    np.testing.assert_allclose(pupil.targets["logits"](rows), wanted, atol=1e-5)
    labels = taught.features["train"].labels()
    assert pupil.targets["labels"](rows).tolist() == labels[rows // 3].tolist()


def test_online_every_epoch_has_a_view_that_no_other_had(school: School) -> None:
    pupil = school.methods["online"].make(school.desk(settings(epochs=4)))
    material = pupil.material
    assert isinstance(material, Material)
    epochs = [material.rows_of(epoch) for epoch in (1, 2, 3, 4)]
    for rows in epochs:
        assert sorted(rows // 4) == list(range(SIZES["train"]))
    assert len(np.unique(np.concatenate(epochs))) == 4 * SIZES["train"]


def test_online_students_of_other_seeds_see_other_views(school: School) -> None:
    pixels: list[Mapping[int, bytes]] = []
    for seed in (1, 1, 2):
        pupil = school.methods["online"].make(school.desk(settings(seed=seed)))
        assert pupil.material is not None
        pixels.append({row: pupil.material.inputs[row].tobytes() for row in range(6)})
    assert pixels[0] == pixels[1]
    assert pixels[0] != pixels[2]
