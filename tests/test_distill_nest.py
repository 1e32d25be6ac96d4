"""Nesting a network: the same bits again, resumed, refused, taught by stored rows, read back."""

import json
import os
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

from distill.errors import StageError
from distill.findings import Nested
from distill.nested_students import load_nested_student
from distill.nesting import (
    Subject,
    calibration_of,
    stored_rows,
)
from distill.predictor import load_predictor
from distill.progress import Silent
from distill.rank_lessons import objective_of, teach_settings
from distill.runs import recall
from distill.stages import nest as stage
from distill.views import Viewed, Views
from students import (
    CheckpointError,
    Classifier,
    evaluate_logits,
    forward_rows,
    load,
    make_feed,
    read_tensors,
    save_student,
)
from students import nested as n
from tests.lessons_examples import NARROW
from tests.nest_examples import (
    IMAGES,
    TEXTS,
    image_subject,
    nested,
    settings,
    text_subject,
)
from tests.store_builder import make_store


class Listener(Silent):
    def __init__(self, stop_at: str = "never") -> None:
        self.said: list[str] = []
        self.stop_at = stop_at

    def say(self, text: str) -> None:
        self.said.append(text)

    def detail(self, text: str) -> None:
        if text.startswith(self.stop_at):
            raise KeyboardInterrupt


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return read_tensors(folder / "nested.safetensors")[0]


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Nested]:
    """A network of images with BatchNorm, finished."""
    folder = tmp_path_factory.mktemp("nested") / "teacher-convolution"
    return folder, nested(image_subject(), folder)


def test_what_is_found_is_what_the_file_does_at_each_budget(made: tuple[Path, Nested]) -> None:
    folder, found = made
    assert recall(folder / "nested.json", Nested) == found
    student = load_nested_student(folder)
    split = IMAGES.splits["validation"]
    assert split.labels is not None
    feed = make_feed(split.inputs, image_subject().prepare, {})
    for point in found.points:
        n.set_budget(student.network, min(point.share, 1.0))
        assert n.budget_of(student.network) == point.share
        told = evaluate_logits(forward_rows(student.network, feed), split.labels)
        assert told.accuracy == point.accuracy
        assert told.loss == pytest.approx(point.loss, abs=1e-5)
    assert found.points[0].share > found.points[-1].share == found.floor
    assert len(found.points) == 3


def test_each_budget_has_batchnorm_statistics_of_its_own(made: tuple[Path, Nested]) -> None:
    folder, found = made
    saved = n.read_nested(folder)
    assert len(saved.norms) == len(saved.path.points) == found.budgets
    network = load_nested_student(folder).network
    batches = calibration_of(
        make_feed(IMAGES.splits["train"].inputs, image_subject().prepare, {}),
        16, seed=0, device="cpu",
    )  # fmt: skip
    for budget in (1.0, found.floor):
        n.set_budget(network, budget)
        held, anew = n.held_norms(network), n.measure_norms(network, batches)
        for name, (mean, variance) in anew.of.items():
            torch.testing.assert_close(held.of[name][0], mean, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(held.of[name][1], variance, rtol=1e-4, atol=1e-5)
    n.set_budget(network, 1.0)
    inputs = image_subject().prepare([IMAGES.splits["test"].inputs[0]])
    with torch.no_grad():
        whole = network(inputs)
        with n.using_budget(network, found.floor):
            asked = network(inputs)
        torch.testing.assert_close(network(inputs), whole)
        n.set_budget(network, found.floor)
        torch.testing.assert_close(network(inputs), asked, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(whole, asked)


def test_validation_curves_of_each_budget_are_in_the_metrics(made: tuple[Path, Nested]) -> None:
    folder, found = made
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]
    best = lines[found.best_epoch - 1]
    for point in found.points:
        assert best[f"accuracy@{point.share:.3f}"] == point.accuracy
    assert best["validation_accuracy"] == pytest.approx(np.mean([p.accuracy for p in found.points]))


def test_the_same_seed_gives_the_same_bits_and_another_does_not(
    made: tuple[Path, Nested], tmp_path: Path
) -> None:
    nested(image_subject(), tmp_path / "again")
    assert same(weights(tmp_path / "again"), weights(made[0]))
    nested(image_subject(), tmp_path / "other", seed=1)
    assert not same(weights(tmp_path / "other"), weights(made[0]))


def test_interrupted_it_goes_on_to_the_same_weights(
    made: tuple[Path, Nested], tmp_path: Path
) -> None:
    folder = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt):
        nested(image_subject(), folder, progress=Listener("epoch 1"))
    assert (folder / "start.safetensors").is_file()
    assert not (folder / "nested.safetensors").exists()
    found = nested(image_subject(), folder)
    assert same(weights(folder), weights(made[0]))
    assert replace(found, name="", seconds=0.0) == replace(made[1], name="", seconds=0.0)


def taught_with(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the teaching is given, once it was."""
    given: dict[str, Any] = {}

    def spied(network: Any, lessons: Any, **arguments: Any) -> Any:
        given.update(arguments)
        return teach_settings(network, lessons, **arguments)

    monkeypatch.setattr(stage, "teach_settings", spied)
    return given


@pytest.mark.parametrize("objective", ["none", "anchor", "dense"])
def test_taught_from_views_it_learns_each_beside_the_dense_network_s_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, objective: str
) -> None:
    given = taught_with(monkeypatch)
    whole, found = image_subject(), nested(
        image_subject(), tmp_path, augment="crop", distill=objective
    )  # fmt: skip
    assert found.notes[0] == "taught from a new view of every example each epoch: crop"
    split, train = IMAGES.splits["train"], given["train"]
    views = Viewed(split.inputs, split.ids, Views(count=2, augment="crop", seed=0), "image")
    assert split.labels is not None
    for epoch in (1, 2):
        rows = train.order(epoch)[0]
        batch = next(train.feed.batches([rows]))
        seen = whole.prepare([views[int(row)] for row in rows])
        assert (rows % 2 == epoch - 1).all()
        torch.testing.assert_close(batch.inputs, dict(seen))
        assert batch.targets["labels"].tolist() == split.labels[rows // 2].tolist()
        assert batch.targets.keys() == {"labels"}  # no logits of other pixels
    if objective != "dense":
        assert given["witness"] is None
        return
    assert not given["witness"].counterparts
    dense = given["witness"].dense
    assert not dense.training
    assert same(dense.state_dict(), whole.network.state_dict())  # not what was cut and taught


@pytest.mark.parametrize("mix", ["mixup", "cutmix"])
def test_taught_from_mixtures_it_learns_what_the_dense_network_says_of_them_and_no_label(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mix: str
) -> None:
    given = taught_with(monkeypatch)
    whole, found = image_subject(), nested(
        image_subject(), tmp_path, augment="crop", mix=mix, distill="dense", kl_weight=2.0
    )  # fmt: skip
    assert found.notes[0] == (
        "taught from a new view of every example each epoch: crop, joined with another example's "
        f"by {mix}, whose label is not learned"
    )
    objective, train = given["objective"], given["train"]
    assert (objective.ce_weight, objective.kl_weight) == (0.0, 2.0)
    split = IMAGES.splits["train"]
    views = Viewed(split.inputs, split.ids, Views(count=2, augment="crop", mix=mix), "image")
    rows = train.order(2)[0]
    batch = next(train.feed.batches([rows]))
    torch.testing.assert_close(batch.inputs, dict(whole.prepare([views[int(r)] for r in rows])))
    wanted = given["witness"].say(batch.inputs)[0]
    with torch.no_grad():
        torch.testing.assert_close(wanted, whole.network.eval()(batch.inputs))


def test_taught_from_views_and_interrupted_it_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    told: dict[str, Any] = {"augment": "crop", "distill": "dense"}
    with pytest.raises(KeyboardInterrupt):
        nested(image_subject(), tmp_path / "cut", progress=Listener("epoch 1"), **told)
    with pytest.raises(CheckpointError, match='made with augment = "crop", now it is'):
        nested(image_subject(), tmp_path / "cut", **{**told, "augment": "crop-flip"})
    nested(image_subject(), tmp_path / "cut", **told)
    nested(image_subject(), tmp_path / "whole", **told)
    assert same(weights(tmp_path / "cut"), weights(tmp_path / "whole"))


@pytest.mark.parametrize(
    "told",
    [{}, {"distill": "dense"}, {"distill": "dense", "augment": "crop"}],
    ids=["anchor", "dense", "views"],
)
def test_hints_are_of_the_dense_network_s_own_layers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: dict[str, Any]
) -> None:
    """Of those that are nested; it is asked of each batch, so that no logits of it are kept."""
    given = taught_with(monkeypatch)
    whole = image_subject()
    found = nested(image_subject(), tmp_path, hint_weight=2.0, **told)
    layers = {layer.name for layer in n.read_nested(tmp_path / "nested.safetensors").surgery.layers}
    witness = given["witness"]
    assert witness.counterparts == {name: name for name in layers}
    assert witness.spreads.keys() == layers
    assert same(witness.dense.state_dict(), whole.network.state_dict())
    assert not witness.dense.training
    train = given["train"]
    batch = next(train.feed.batches([train.order(1)[0]]))
    assert batch.targets.keys() == {"labels"}
    assert given["objective"].hint_weight == 2.0
    said = "layers learned what the dense network's give on the way, by a weight of 2"
    assert f"{len(layers)} {said}" in found.notes


def test_with_hints_and_interrupted_it_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    told: dict[str, Any] = {"hint_weight": 2.0, "distill": "dense"}
    with pytest.raises(KeyboardInterrupt):
        nested(image_subject(), tmp_path / "cut", progress=Listener("epoch 1"), **told)
    with pytest.raises(CheckpointError, match=r"made with hint_weight = 2\.0, now it is none"):
        nested(image_subject(), tmp_path / "cut", distill="dense")
    nested(image_subject(), tmp_path / "cut", **told)
    nested(image_subject(), tmp_path / "whole", **told)
    nested(image_subject(), tmp_path / "plain", distill="dense")
    assert same(weights(tmp_path / "cut"), weights(tmp_path / "whole"))
    assert not same(weights(tmp_path / "cut"), weights(tmp_path / "plain"))


def test_ranks_that_are_taught_learn_biases_of_their_own(tmp_path: Path) -> None:
    told: dict[str, Any] = {"data": TEXTS, "include": ("mlp", "attention"), "own_biases": True}
    with pytest.raises(n.BudgetError, match="ask for at least"):
        nested(text_subject(tmp_path), tmp_path / "cut", **told, budgets=(0.001,))
    with pytest.raises(KeyboardInterrupt):
        nested(text_subject(tmp_path), tmp_path / "cut", progress=Listener("epoch 1"), **told)
    before = n.read_nested(tmp_path / "cut" / stage.START)
    with pytest.raises(CheckpointError, match="made with own_biases = true, now it is none"):
        nested(text_subject(tmp_path), tmp_path / "cut", **{**told, "own_biases": False})
    found = nested(text_subject(tmp_path), tmp_path / "cut", **told)
    nested(text_subject(tmp_path), tmp_path / "whole", **told)
    nested(text_subject(tmp_path), tmp_path / "plain", **{**told, "own_biases": False})
    assert same(weights(tmp_path / "cut"), weights(tmp_path / "whole"))
    assert "ranks that are taught have biases of their own: " in found.surgery
    saved = n.read_nested(tmp_path / "cut")
    assert n.surgery_of(load_nested_student(tmp_path / "cut").network) == saved.surgery
    assert saved.surgery.has_own
    assert not before.surgery.has_own
    lessons = saved.card["lessons"]
    taught = [point for point in saved.path.points if point.share in lessons]
    assert len(taught) == len(lessons) == 3
    plain = n.read_nested(tmp_path / "plain").tensors
    for record in saved.surgery.layers:
        own = {point.ranks[record.name] for point in taught}
        assert record.own == tuple(sorted(own, reverse=True))
        assert saved.tensors[f"{record.name}.own_biases"].abs().amax(dim=1).all()
        assert not torch.equal(saved.tensors[f"{record.name}.up"], plain[f"{record.name}.up"])


CHILD = """
import sys
from pathlib import Path
from tests.nest_examples import image_subject, nested
nested(image_subject(), Path(sys.argv[1]), epochs=6, include=("*.layer4.0.conv2",))
"""


def test_killed_it_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    folder, whole = tmp_path / "killed", tmp_path / "whole"
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(folder)], env={**os.environ})
    deadline = time.monotonic() + 120
    metrics = folder / "metrics.jsonl"
    while child.poll() is None and time.monotonic() < deadline:
        if metrics.is_file() and len(metrics.read_text().splitlines()) >= 1:
            break
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not (folder / "nested.safetensors").exists(), "it finished before it was killed"
    nested(image_subject(), folder, epochs=6, include=("*.layer4.0.conv2",))
    nested(image_subject(), whole, epochs=6, include=("*.layer4.0.conv2",))
    assert same(weights(folder), weights(whole))


def test_what_is_finished_is_left_alone_and_other_settings_are_refused(
    made: tuple[Path, Nested],
) -> None:
    folder, found = made
    before = (folder / "nested.safetensors").stat().st_mtime_ns
    heard = Listener()
    assert nested(image_subject(), folder, progress=heard) == found
    assert heard.said == ["teacher-convolution is nested already"]
    assert (folder / "nested.safetensors").stat().st_mtime_ns == before
    with pytest.raises(CheckpointError, match=r"made with rank = \"full\", now it is 2; .*overwr"):
        nested(image_subject(), folder, rank=2)
    other = replace(image_subject(), made_by={"network": "sha256:other"})
    with pytest.raises(CheckpointError, match="made with network ="):
        nested(other, folder)


def test_a_start_of_another_surgery_is_refused_and_overwritten_when_asked(tmp_path: Path) -> None:
    folder = tmp_path / "n"
    with pytest.raises(KeyboardInterrupt):
        nested(image_subject(), folder, progress=Listener("epoch 1"))
    with pytest.raises(CheckpointError, match="made with rank"):
        nested(image_subject(), folder, rank=2)
    with pytest.raises(CheckpointError, match=r"made with learning_rate = 0\.003"):
        nested(image_subject(), folder, learning_rate=0.1)
    found = nested(image_subject(), folder, rank=2, overwrite=True, epochs=1)
    assert max(layer.full_rank for layer in n.nested_layers(
        load_nested_student(folder).network).values()) == 2  # fmt: skip
    assert found.epochs == 1


def test_a_network_of_another_surgery_does_not_take_the_file(made: tuple[Path, Nested]) -> None:
    network = image_subject().network
    n.nest(network, "head", rank=2)
    with pytest.raises(n.OtherSurgeryError, match=r"of another surgery|there can be nested"):
        network.load_state_dict(n.read_nested(made[0]).tensors)
    strange = torch.nn.Sequential(torch.nn.Linear(3, 3))
    with pytest.raises(n.OtherSurgeryError, match="the surgery is of another network"):
        n.fill(strange, made[0])


def test_students_alone_say_where_a_teachers_network_is_read(made: tuple[Path, Nested]) -> None:
    with pytest.raises(n.NestedError, match=r"network of a teacher.*distill\.load_predictor"):
        n.load(made[0])
    n.fill(image_subject().network, made[0])


@pytest.mark.parametrize("objective", ["none", "anchor", "dense"])
def test_a_text_teacher_learns_its_ranks(tmp_path: Path, objective: str) -> None:
    subject = text_subject(tmp_path)
    heard = Listener()
    found = nested(
        subject,
        tmp_path / "n",
        data=TEXTS,
        include=("mlp", "attention", "head"),
        distill=objective,
        epochs=12,
        learning_rate=1e-2,
        progress=heard,
    )
    assert found.measured_at.endswith("tokens")
    assert "encoder.network.encoder.layer.*.intermediate.dense" in found.surgery
    assert found.surgery in heard.said
    assert found.points[0].accuracy > 0.8 > found.points[0].untaught
    predictor = load_predictor(tmp_path / "n", budget=found.floor)
    labels, shares = predictor.predict(["the cat sat", "the dog ran on"])
    assert set(labels) <= set(TEXTS.classes)
    np.testing.assert_allclose(shares.sum(axis=1), 1.0)
    assert predictor.student.modality == "text"


def test_a_nested_student_learns_stored_rows_without_labels_or_teacher(tmp_path: Path) -> None:
    """Its targets are the rows that it gave before it was nested."""
    student = _saved_student(tmp_path / "student")
    subject = _student_subject(tmp_path / "student")
    split = IMAGES.splits["train"]
    rows = forward_rows(subject.network.encoder, make_feed(split.inputs, subject.prepare, {}))
    order = np.random.default_rng(0).permutation(len(split))
    store = make_store(tmp_path / "rows", rows[order], ids=split.ids[order])
    stored = stored_rows(store, split)
    with pytest.raises(StageError, match=r"leave out nest\.augment"):
        nested(subject, tmp_path / "n", stored=stored, augment="crop")
    with pytest.raises(StageError, match=r"leave out nest\.hint_weight"):
        nested(subject, tmp_path / "n", stored=stored, hint_weight=1.0)
    np.testing.assert_array_equal(stored.rows(np.arange(len(split))).numpy(), rows)
    found = nested(
        subject, tmp_path / "n", stored=stored, distill="none", epochs=6, learning_rate=1e-2
    )
    network = n.load(tmp_path / "n")  # by students alone
    assert torch.equal(network.head.weight, student.head.weight)  # it reads the rows' space
    n.set_budget(network, found.floor)
    lines = (tmp_path / "n" / "metrics.jsonl").read_text().splitlines()
    losses = [json.loads(line)["loss"] for line in lines]
    assert losses[-1] < losses[0]  # of the distance alone: labels and distillation are off


def test_stored_rows_of_other_examples_are_refused(tmp_path: Path) -> None:
    split = IMAGES.splits["train"]
    store = make_store(tmp_path / "rows", np.zeros((3, 2), np.float32), ids=split.ids[:3])
    with pytest.raises(StageError, match="holds other examples than the data"):
        stored_rows(store, split)


def test_labels_or_stored_rows_are_learned_and_not_both(tmp_path: Path) -> None:
    split = IMAGES.splits["train"]
    store = make_store(
        tmp_path / "r", np.array([[2.0], [-2.0]] * 20 + [[0.0]], np.float32), ids=split.ids
    )
    stored = stored_rows(store, split)
    ours = objective_of(settings(), scale=stored.scale)
    assert (ours.ce_weight, ours.target_weight, ours.scale) == (0.0, 1.0, stored.scale)
    theirs = objective_of(settings(weighing="clamped", sampling="uniform", distill="dense"))
    assert (theirs.ce_weight, theirs.target_weight) == (1.0, 0.0)
    assert (theirs.weighing, theirs.sampling, theirs.distill) == ("clamped", "uniform", "dense")


def _saved_student(folder: Path) -> Classifier:
    from students import build_student, fresh_head
    from teachers import save_prepare

    encoder = build_student(
        "timm/resnet10t", dim_out=5, modality="image", options=NARROW, image_size=32
    )
    head = fresh_head(5, 3, seed=0)
    assert encoder.blueprint is not None
    subject = image_subject()
    save_student(
        folder / "student.safetensors",
        encoder,
        weight=head.weight,
        bias=head.bias,
        blueprint=encoder.blueprint,
        classes=IMAGES.classes,
        preprocessing=subject.card["preprocessing"],
        made_by={},
    )
    save_prepare(folder, subject.prepare)
    return Classifier(encoder, head)


def _student_subject(folder: Path) -> Subject:
    from dataclasses import asdict

    student = load(folder)
    subject = image_subject()
    card = {**subject.card, "blueprint": asdict(student.blueprint), "teacher": None}
    return replace(subject, network=student.network, card=card, name="student")


def test_what_is_refused_leaves_the_network_that_was_there(tmp_path: Path) -> None:
    folder = tmp_path / "nested"
    nested(text_subject(tmp_path), folder, data=TEXTS, include=("mlp",), epochs=1)
    (folder / "student@0.5.onnx").touch()
    before = weights(folder)
    told: dict[str, Any] = {"data": TEXTS, "overwrite": True}
    for changes in ({"include": ("none-such",)}, {"include": ("mlp",), "ranks": (99,)}):
        with pytest.raises(n.NestedError):
            nested(text_subject(tmp_path), folder, **told, **changes)
        assert same(before, weights(folder))
        assert (folder / "student@0.5.onnx").is_file()
    nested(text_subject(tmp_path), folder, data=TEXTS, include=("mlp",), epochs=2, overwrite=True)
    assert not (folder / "student@0.5.onnx").is_file()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
