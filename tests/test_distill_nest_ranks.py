"""Which ranks a network is cut and taught at: paths, floors, ranks alike, gauges, costs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distill.config import load_config, settle
from distill.nested_students import load_nested_student
from distill.nesting import (
    BATCH,
    calibration_of,
    deciding,
    down_to,
    example_of,
    lessons_of,
    measured_at,
)
from distill.rank_lessons import learning_of
from students import (
    CheckpointError,
    Recipe,
    make_feed,
)
from students import nested as n
from teachers import load_teacher
from tests.nest_examples import (
    IMAGES,
    TEXTS,
    image_subject,
    nested,
    settings,
    subject_of,
    text_subject,
)
from tests.teachers_examples import WORDS, tokenizer

PYTHIA = Path(__file__).resolve().parents[1] / "configs/paper-pythia-2.8b-mnli.toml"


def test_gauges_are_used_where_they_are_allowed_and_asked_back(tmp_path: Path) -> None:
    for gauges in (False, True):
        folder = tmp_path / str(gauges)
        nested(image_subject(), folder, gauges=gauges, epochs=1)
        path, network = n.read_nested(folder).path, load_nested_student(folder).network
        prepared = n.prepare(network, [point.ranks for point in path.points]).values()
        assert ("gauge" in {form for each in prepared for form in each.values()}) is gauges
        assert n.surgery_of(network).gauges is gauges
    with pytest.raises(CheckpointError, match="made with gauges = false, now it is true"):
        nested(image_subject(), tmp_path / "False", gauges=True, epochs=1)


def test_calibration_rows_are_distinct_training_rows_of_the_seed() -> None:
    feed = make_feed(IMAGES.splits["train"].inputs, image_subject().prepare, {})
    (every,) = (batch.inputs["pixel_values"] for batch in feed.batches([np.arange(feed.rows)]))
    found = torch.cat(
        [b["pixel_values"] for (b,) in calibration_of(feed, 20, seed=1, device="cpu")]
    )
    places = [int((every == one).flatten(1).all(1).nonzero()[0]) for one in found]
    assert len(set(places)) == 20
    other = torch.cat(
        [b["pixel_values"] for (b,) in calibration_of(feed, 20, seed=2, device="cpu")]
    )
    assert not torch.equal(found, other)
    sizes = [
        len(b["pixel_values"]) for (b,) in calibration_of(feed, BATCH + 1, seed=0, device="cpu")
    ]
    assert sizes == [BATCH + 1]  # no batch of one row
    whole = calibration_of(feed, 1000, seed=0, device="cpu")
    assert sum(len(b["pixel_values"]) for (b,) in whole) == feed.rows


def test_costs_are_counted_at_an_example_of_middling_length() -> None:
    def prepare(texts: list[str]) -> dict[str, torch.Tensor]:
        return {"input_ids": torch.zeros(1, len(texts[0].split()), dtype=torch.long)}

    class Split3:
        inputs = ("a", "a b c d e f", "a b c")

    assert measured_at(example_of(Split3(), prepare)[0]) == "3 tokens"  # type: ignore[arg-type]
    assert measured_at({"pixel_values": torch.zeros(1, 3, 8, 9)}) == "3 x 8 x 9"


def test_a_floor_ends_the_path_and_one_out_of_reach_is_refused() -> None:
    path = n.NestedPath(
        points=tuple(
            n.PathPoint(share=s, ranks={"a": r}) for s, r in ((1.0, 4), (0.6, 2), (0.3, 1))
        ),
        measured_at="x",
    )
    assert [p.share for p in down_to(path, 0.7).points] == [1.0, 0.6]
    assert [p.share for p in down_to(path, 0.3).points] == [1.0, 0.6, 0.3]
    with pytest.raises(n.BudgetError, match=r"ask for at least 0\.3"):
        down_to(path, 0.2)


def test_what_budgets_pay_for_is_taught_beside_the_points() -> None:
    shares = (1.0, 0.8, 0.6, 0.52, 0.45, 0.3, 0.2)
    path = n.NestedPath(
        points=tuple(n.PathPoint(share=s, ranks={"a": 7 - i}) for i, s in enumerate(shares)),
        measured_at="x",
    )

    def taught(**changes: Any) -> list[float]:
        return [point.share for point in lessons_of(path, settings(**changes)).points]

    assert taught(points=3) == [1.0, 0.6, 0.2]
    assert taught(points=3, budgets=(0.5, 0.9)) == [1.0, 0.8, 0.6, 0.45, 0.2]
    assert taught(points=3, budgets=(0.6, 0.65)) == [1.0, 0.6, 0.2]  # paid for by both
    with pytest.raises(n.BudgetError, match=r"ask for at least 0\.2"):
        taught(budgets=(0.1,))


def test_settings_that_came_later_decide_only_where_they_are_set() -> None:
    """Else what was nested before there were any could not be gone on with."""
    later = {"augment", "budgets", "hint_weight", "mix", "own_biases"}
    assert not (later | {"student", "name"}) & deciding(settings()).keys()
    found = deciding(settings(augment="crop", budgets=(0.4, 0.6)))
    assert (found["augment"], found["budgets"]) == ("crop", [0.6, 0.4])  # in whatever order
    assert deciding(settings(augment="crop", distill="dense", mix="cutmix"))["mix"] == "cutmix"


def test_a_budget_out_of_reach_is_refused_and_one_in_reach_taught(tmp_path: Path) -> None:
    with pytest.raises(n.BudgetError, match="ask for at least"):
        nested(image_subject(), tmp_path, budgets=(0.001,))
    found = nested(image_subject(), tmp_path, budgets=(0.9,))
    path = n.read_nested(tmp_path).path
    assert path.at(0.9).share in [point.share for point in found.points]
    assert len(found.points) == 4
    with pytest.raises(CheckpointError, match=r"made with budgets = \[0\.9\], now it is none"):
        nested(image_subject(), tmp_path)


@pytest.mark.parametrize(("rate", "pace"), [(2e-4, 50.0), (1e-2, 1.0), (0.1, 1.0)])
def test_what_is_learned_of_the_ranks_has_a_rate_of_its_own(rate: float, pace: float) -> None:
    """A hundredth where the network learns slower: for ``nest`` and for a frontier alike."""
    recipe = Recipe(epochs=3, batch_size=4, learning_rate=rate)
    told = n.NestedRecipe(weighing="uncertainty")
    found = learning_of(torch.nn.Linear(2, 2), told, settings=3, rows=10, recipe=recipe).objective
    assert found.count == 3
    assert getattr(found.log_variances, "pace", 1.0) == pytest.approx(pace)


def test_ranks_of_all_layers_alike_are_a_path_and_are_taught(tmp_path: Path) -> None:
    """A BERT of 16 numbers a token: its MLP's layers have rank 16 at most."""
    subject, folder = text_subject(tmp_path), tmp_path / "alike"
    found = nested(subject, folder, data=TEXTS, include=("mlp",), ranks=(2, 4), candidates=4)
    saved = n.read_nested(folder)
    ranks = [set(point.ranks.values()) for point in saved.path.points]
    assert ranks[0] == {16}
    assert ranks[-1] == {2}
    assert all(len(of) == 1 for of in ranks)
    assert {4} in ranks
    assert len(ranks) > 3  # others lie between, which are not taught
    taught = [point.share for point in saved.path.points if set(point.ranks.values()) <= {16, 4, 2}]
    assert [point.share for point in found.points] == taught == saved.card["lessons"]
    told: dict[str, Any] = {"data": TEXTS, "include": ("mlp",), "candidates": 4}
    with pytest.raises(CheckpointError, match=r"made with ranks = \[4, 2\], now it is \[2\]"):
        nested(text_subject(tmp_path), folder, ranks=(2,), **told)


def test_ranks_that_no_layer_has_or_that_save_nothing_are_refused(tmp_path: Path) -> None:
    told: dict[str, Any] = {"data": TEXTS, "include": ("mlp",)}
    with pytest.raises(n.RankError, match=r"ranks of layers are in 1\.\.16 here, got 17"):
        nested(text_subject(tmp_path), tmp_path / "a", ranks=(17, 4), **told)
    with pytest.raises(n.RankError, match=r"rank 16 is the whole network, .* name a lower one"):
        nested(text_subject(tmp_path), tmp_path / "a", ranks=(16,), **told)
    beyond = (
        "at rank 12 the network costs as much as at a higher one; leave it out, or .* gauge form"
    )
    with pytest.raises(n.RankError, match=beyond):
        nested(text_subject(tmp_path), tmp_path / "a", ranks=(12, 4), **told)
    found = nested(text_subject(tmp_path), tmp_path / "b", ranks=(12, 4), gauges=True, **told)
    assert len(found.points) == 3
    with pytest.raises(n.RankError, match=r"at rank 15 .* leave it out$"):
        nested(text_subject(tmp_path), tmp_path / "c", ranks=(15, 4), gauges=True, **told)


def test_layers_of_other_sizes_stay_at_what_they_have(tmp_path: Path) -> None:
    folder = tmp_path / "alike"
    nested(image_subject(), folder, ranks=(6,), epochs=1)
    path = n.read_nested(folder).path
    full = path.points[0].ranks
    assert path.points[-1].ranks == {name: min(6, top) for name, top in full.items()}
    assert min(full.values()) < 6 < max(full.values())


def test_a_causal_network_learns_the_papers_ranks_by_the_papers_objective(tmp_path: Path) -> None:
    """What configs/paper-pythia-2.8b-mnli.toml says, of a GPT-NeoX of 16 numbers a token."""
    from transformers import GPTNeoXConfig, GPTNeoXModel

    folder = tmp_path / "neox"
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = GPTNeoXConfig(
        vocab_size=4 + len(WORDS), intermediate_size=32, max_position_embeddings=32, **sizes
    )
    GPTNeoXModel(config).save_pretrained(folder)
    words = tokenizer()
    words.model_input_names = ["input_ids", "attention_mask"]
    words.save_pretrained(folder)
    told = settle(load_config(PYTHIA), {}).nest
    assert (told.ranks, told.weighing, told.sampling) == (
        (1024, 512, 256, 128, 64), "uncertainty", "widening"
    )  # fmt: skip
    name = f"hf/{folder}"
    teacher = load_teacher(name, weights="pretrained", max_length=16)
    subject = subject_of(teacher, {"name": name, "max_length": 16})
    kept = {"include", "init", "weighing", "sampling", "distill"}
    same = {key: value for key, value in told.model_dump().items() if key in kept}
    found = nested(subject, tmp_path / "made", data=TEXTS, ranks=(8, 4, 2), **same)
    assert found.layers == 4
    assert len(found.points) == 4
    assert [point.share for point in found.points] == sorted(
        (point.share for point in found.points), reverse=True
    )
    student = load_nested_student(tmp_path / "made", budget=found.points[-1].share)
    assert set(n.ranks(student.network).values()) == {2}
