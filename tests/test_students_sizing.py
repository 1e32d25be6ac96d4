"""The student ``auto``: what it costs is counted, fits the budget, and nothing larger does."""

import time

import pytest
import torch

from distill.stages.measure import count_multiply_adds
from students import Blueprint, StudentError, build, choose_student, fresh_head, multiply_adds
from students.encoders import Classifier
from students.sizing import _bert, _resnets, _static, _with

IMAGES = Blueprint(name="auto", dim_out=16, modality="image", image_size=32)
TEXTS = Blueprint(name="auto", dim_out=16, modality="text", vocabulary=50)
RESNET18 = 37_000_000  # multiply-adds at 32 pixels


@pytest.mark.parametrize("candidate", [_resnets()[2], _bert()[1], _static()[0]])
def test_the_count_is_that_of_the_built_classifier(candidate: object) -> None:
    blueprint = _with(IMAGES if "timm" in str(candidate) else TEXTS, candidate)  # type: ignore[arg-type]
    network = Classifier(build(blueprint), fresh_head(16, 7, seed=0))
    ids = torch.ones(1, 9, dtype=torch.int64)
    inputs = {"pixel_values": torch.zeros(1, 3, 32, 32), "input_ids": ids, "attention_mask": ids}
    expected, uncounted = count_multiply_adds(network.eval(), inputs)
    assert multiply_adds(blueprint, tokens=9, classes=7) == expected
    assert uncounted == ()


def test_the_next_larger_one_would_not_fit() -> None:
    family = _resnets()
    for place in (0, 3, 15):
        cost = multiply_adds(_with(IMAGES, family[place]), classes=7)
        for teacher, at in ((cost * 50, place), (cost * 50 - 50, place - 1)):
            if at < 0:
                continue
            chosen = choose_student(IMAGES, teacher_multiply_adds=teacher, budget=0.02, classes=7)
            assert (chosen.name, chosen.options) == (family[at].name, family[at].options)


@pytest.mark.parametrize("size", [32, 224])
def test_each_family_costs_more_from_one_to_the_next(size: int) -> None:
    images = Blueprint(name="auto", dim_out=16, modality="image", image_size=size)
    sampled = [*_resnets()[:15:3], *_resnets()[15:18]]
    costs = [multiply_adds(_with(images, candidate)) for candidate in sampled]
    assert costs == sorted(set(costs))
    costs = [multiply_adds(_with(TEXTS, each), tokens=16) for each in [*_static(), *_bert()[:3]]]
    assert costs == sorted(set(costs))


def test_texts_go_from_static_embeddings_to_attention_as_the_budget_grows() -> None:
    names = [
        choose_student(TEXTS, teacher_multiply_adds=200_000_000, budget=budget, tokens=16).name
        for budget in (0.00005, 0.001, 0.02)
    ]
    assert names == ["static/256", "static/512", "hf/bert"]


def test_the_choice_is_quick_leaves_random_state_alone_and_can_be_built() -> None:
    state, began = torch.get_rng_state(), time.perf_counter()
    chosen = choose_student(IMAGES, teacher_multiply_adds=RESNET18, budget=0.1, classes=10)
    assert time.perf_counter() - began < 10  # a second on an idle machine
    assert torch.equal(state, torch.get_rng_state())
    again = choose_student(IMAGES, teacher_multiply_adds=RESNET18, budget=0.1, classes=10)
    assert chosen == again
    assert chosen.dim_out == 16
    assert build(chosen).eval()({"pixel_values": torch.zeros(2, 3, 32, 32)}).shape == (2, 16)


def test_what_no_student_fits_says_how_much_the_smallest_needs() -> None:
    with pytest.raises(StudentError, match=r"allows 3,700 of .* smallest student, timm/resnet10t"):
        choose_student(IMAGES, teacher_multiply_adds=RESNET18, budget=0.0001)
    with pytest.raises(StudentError, match="static/16, takes") as caught:
        choose_student(TEXTS, teacher_multiply_adds=1000, budget=0.1, tokens=16)
    told = float(str(caught.value).rpartition("allow ")[2].partition(",")[0])
    chosen = choose_student(TEXTS, teacher_multiply_adds=1000, budget=told, tokens=16)
    assert chosen.name == "static/16"
    with pytest.raises(StudentError, match="must be above 0, got 0"):
        choose_student(IMAGES, teacher_multiply_adds=RESNET18, budget=0.0)
