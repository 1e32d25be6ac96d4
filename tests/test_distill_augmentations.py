"""Augmentations: by name, of the right size, never mirrored where they must not be, refused."""

import random
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from distill.augmentations import NAMED, augmentation, check_augmentation
from distill.errors import StageError
from tests.views_examples import pictures

OF_IMAGES = [
    "crop-flip",
    "crop",
    "strong",
    "timm:rand-m9-mstd0.5",
    "timm:augmix-m3",
    "timm:rand-m10-inc1",
]


def draws(name: str, image: Image.Image, count: int = 60) -> list[np.ndarray]:
    """Many views of one image."""
    return [np.asarray(augmentation(name).draw([image], seed)[0]) for seed in range(count)]


@pytest.mark.parametrize("name", OF_IMAGES)
def test_a_view_has_its_images_size_and_three_channels(name: str) -> None:
    for image in pictures():
        (view,) = augmentation(name).draw([image], 5)
        assert (view.size, view.mode) == (image.size, "RGB")


@pytest.mark.parametrize("name", OF_IMAGES)
def test_seeds_give_different_views_and_one_seed_gives_the_same(name: str) -> None:
    image = pictures()[0]
    found = [view.tobytes() for view in draws(name, image)]
    assert len(set(found)) > 25
    assert found == [view.tobytes() for view in draws(name, image)]


def ramp(width: int, height: int) -> Image.Image:
    """Red grows to the right and green downwards: a crop and a mirror image are told apart."""
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[..., 0] = 3 * np.arange(width)
    pixels[..., 1] = 3 * np.arange(height)[:, None]
    return Image.fromarray(pixels)


def test_a_small_image_is_moved_by_at_most_an_eighth_with_a_mirrored_margin() -> None:
    """Every one of the possible crops of the padded image, and nothing else."""
    image = ramp(16, 24)
    padded = np.pad(np.asarray(image), ((3, 3), (2, 2), (0, 0)), mode="reflect")
    possible = {
        padded[top : top + 24, left : left + 16].tobytes() for top in range(7) for left in range(5)
    }
    assert {view.tobytes() for view in draws("crop", image, 600)} == possible


def test_half_of_the_views_are_mirrored_and_none_of_a_plain_crop() -> None:
    image = ramp(40, 40)
    plain = {view.tobytes() for view in draws("crop", image, 3000)}
    flipped = {np.asarray(view)[:, ::-1].tobytes() for view in draws("crop", image, 3000)}
    views = [view.tobytes() for view in draws("crop-flip", image, 300)]
    mirrored = sum(view in flipped for view in views)
    assert all(view in plain or view in flipped for view in views)
    assert not plain & flipped
    assert 110 < mirrored < 190  # 150, give or take four and a half standard errors


def test_a_large_image_is_zoomed_into_and_never_mirrored_by_a_plain_crop() -> None:
    """Red still grows to the right, over at most the whole range and at least half of it."""
    views = draws("crop", ramp(80, 70), 100)
    widths = [float(view[:, -1, 0].mean()) - float(view[:, 0, 0].mean()) for view in views]
    assert max(widths) <= 3 * 79
    assert min(widths) >= 3 * 79 * 0.35  # of the area, so of a side where it is as narrow as can be
    assert np.std(widths) > 10


def test_strong_views_change_colours_too() -> None:
    image = Image.new("RGB", (32, 32), (90, 120, 200))
    assert {view.tobytes() for view in draws("crop-flip", image)} == {image.tobytes()}
    assert len({view.tobytes() for view in draws("strong", image)}) > 10


def test_every_image_of_a_call_is_changed_by_itself() -> None:
    image = ramp(32, 32)
    first, second = augmentation("crop").draw([image, image], 3)
    assert first.tobytes() != second.tobytes()


@pytest.mark.parametrize("name", [*OF_IMAGES, "token-dropout"])
def test_the_global_generators_are_left_as_they_were(name: str) -> None:
    draw = augmentation(name).draw
    example: Any = "one two three" if name == "token-dropout" else pictures()[0]
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    np.random.standard_normal()  # noqa: NPY002 - half of a pair is kept for the next time
    torch.manual_seed(1)

    def next_numbers() -> list[float]:
        return [random.random(), np.random.standard_normal(), torch.rand(1).item()]  # noqa: NPY002

    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    expected = next_numbers()
    random.setstate(states[0])
    np.random.set_state(states[1])  # noqa: NPY002
    torch.set_rng_state(states[2])
    draw([example], 7)
    assert next_numbers() == expected


def test_they_are_put_back_after_an_error_too() -> None:
    before = torch.get_rng_state()
    with pytest.raises(AttributeError):
        augmentation("timm:rand-m9").draw([pictures()[0], "no image"], 3)

    class Broken:
        size = (32, 32)

    state = random.getstate()
    with pytest.raises(TypeError):
        augmentation("timm:rand-m9").draw([Broken()], 3)
    assert random.getstate() == state
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", OF_IMAGES)
def test_what_was_drawn_before_changes_no_view(name: str) -> None:
    image = pictures()[0]
    first = augmentation(name).draw([image], 11)[0].tobytes()
    random.seed(5)
    np.random.seed(6)  # noqa: NPY002
    torch.manual_seed(7)
    assert augmentation(name).draw([image], 11)[0].tobytes() == first


def test_words_go_with_a_chance_of_fifteen_in_a_hundred_and_keep_their_order() -> None:
    words = [f"w{number}" for number in range(40)]
    draw = augmentation("token-dropout").draw
    left = [draw([" ".join(words)], seed)[0].split() for seed in range(500)]
    for kept in left:
        assert [word for word in words if word in kept] == kept
    share = 1 - np.mean([len(kept) for kept in left]) / 40
    assert abs(share - 0.15) < 5 * np.sqrt(0.15 * 0.85 / (40 * 500))


def test_one_word_stays_of_each_text_that_has_any() -> None:
    draw = augmentation("token-dropout").draw
    for seed in range(300):
        one, pair, empty = draw(["word", ("left right", "alone"), " "], seed)
        assert one == "word"
        assert isinstance(pair, tuple)
        assert pair[0] in {"left", "right", "left right"}
        assert pair[1] == "alone"
        assert empty == ""
    both = {draw(["left right"], seed)[0] for seed in range(300)}
    assert both == {"left", "right", "left right"}


def test_the_word_that_stays_is_any_of_them() -> None:
    """All go with a chance of 0.0225; were it always the first that stays, it would show."""
    count = 20_000
    kept = augmentation("token-dropout").draw
    alone = [kept(["left right"], seed)[0] for seed in range(count)]
    difference = (alone.count("left") - alone.count("right")) / count
    assert abs(difference) < 4 * np.sqrt(2 * 0.1275 / count) < 0.0225


def test_members_of_a_pair_lose_words_of_their_own() -> None:
    text = " ".join(f"w{number}" for number in range(30))
    ((first, second),) = augmentation("token-dropout").draw([(text, text)], 0)
    assert first != second


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("crop-flop", "no augmentation named 'crop-flop'; did you mean 'crop-flip'.*known: crop"),
        ("timm:", "no policy of timm named ''"),
        ("timm:rnd-m9", "no policy of timm named 'rnd-m9'; did you mean 'rand'"),
        ("timm:rand-m9-q7", "timm cannot read the policy 'rand-m9-q7': Unknown RandAugment"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(name: str, message: str) -> None:
    with pytest.raises(StageError, match=message) as caught:
        augmentation(name)
    assert "\n" not in str(caught.value)


def test_an_augmentation_of_another_modality_is_refused() -> None:
    with pytest.raises(
        StageError, match=r"token-dropout is for texts, and these .* images; use cr"
    ):
        check_augmentation("token-dropout", "image")
    with pytest.raises(StageError, match=r"crop is for images, and these .* texts; use token-drop"):
        check_augmentation("crop", "text")
    for name, known in NAMED.items():
        check_augmentation(name, known.modality)
