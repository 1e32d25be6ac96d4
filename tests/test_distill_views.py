"""Views: the same pixels and words wherever and whenever they are made again."""

import os
import pickle
import random
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from distill.augmentations import augmentation
from distill.errors import StageError
from distill.views import Viewed, Views, cut, cutmix, mixup
from students import LoaderFeed
from tests.views_examples import IDS, pictures, sentences, told, viewed

KINDS = [
    ("crop-flip", "none"),
    ("strong", "mixup"),
    ("timm:rand-m9-mstd0.5", "cutmix"),
    ("token-dropout", "none"),
]


def all_of(views: Viewed) -> list[str]:
    return [told(view) for view in views]


def test_another_process_makes_the_same_views() -> None:
    """In the other order, and with another order of sets and dictionaries."""
    command = [
        sys.executable,
        "-m",
        "tests.views_examples",
        *(word for kind in KINDS for word in kind),
    ]
    seeded = {**os.environ, "PYTHONHASHSEED": "3"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=seeded)
    expected = [told for augment, mix in KINDS for told in all_of(viewed(augment, mix=mix))]
    assert done.stdout.splitlines()[::-1] == expected


class _Told(Dataset[str]):
    """Hashes of views, made by whichever process is asked."""

    def __init__(self, views: Viewed) -> None:
        self.views = views

    def __len__(self) -> int:
        return len(self.views)

    def __getitem__(self, row: int) -> str:
        return told(self.views[row])


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize(("augment", "mix"), KINDS)
def test_the_number_of_workers_and_the_order_change_no_view(
    augment: str, mix: str, workers: int
) -> None:
    views = viewed(augment, mix=mix)
    order = np.random.default_rng(workers).permutation(len(views)).tolist()
    loader: Any = DataLoader(_Told(views), batch_size=2, sampler=order, num_workers=workers)
    found = [text for batch in loader for text in batch]
    expected = all_of(viewed(augment, mix=mix))
    assert found == [expected[row] for row in order]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_training_loops_feed_gives_the_same_pixels(workers: int) -> None:
    views = Viewed(pictures()[:1], IDS[:1], Views(count=6, augment="crop-flip"), "image")

    def prepare(images: Any) -> dict[str, torch.Tensor]:
        return {"pixels": torch.stack([torch.from_numpy(np.array(image)) for image in images])}

    feed = LoaderFeed(views, prepare, {}, workers)
    order = [np.array([5, 0]), np.array([3])]
    batches = [batch.inputs["pixels"].numpy() for batch in feed.batches(order)]
    for rows, pixels in zip(order, batches, strict=True):
        for row, found in zip(rows, pixels, strict=True):
            np.testing.assert_array_equal(found, np.asarray(views[int(row)]))


@pytest.mark.parametrize(("augment", "mix"), KINDS)
def test_the_generators_of_others_neither_matter_nor_change(augment: str, mix: str) -> None:
    expected = all_of(viewed(augment, mix=mix))
    random.seed(9)
    np.random.seed(9)  # noqa: NPY002
    torch.manual_seed(9)
    states = random.getstate(), repr(np.random.get_state()), torch.get_rng_state()  # noqa: NPY002
    assert all_of(viewed(augment, mix=mix)) == expected
    assert random.getstate() == states[0]
    assert repr(np.random.get_state()) == states[1]  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), states[2])


@pytest.mark.parametrize(("augment", "mix"), KINDS)
def test_views_differ_from_one_another_and_from_the_example(augment: str, mix: str) -> None:
    views = viewed(augment, mix=mix, count=4)
    clean = [told(example) for example in (sentences() if "token" in augment else pictures())]
    made = all_of(views)
    assert len(set(made)) > 3 * len(IDS)
    for example in range(len(IDS)):
        own = made[4 * example : 4 * example + 4]
        assert len(set(own)) >= 2  # some may fall on the same draw
        assert clean[example] not in own or "token" in augment


def test_entry_r_is_view_r_mod_count_of_example_r_div_count() -> None:
    """Whatever row it stands in, a view is that of its id and number."""
    views = viewed("crop", count=3)
    assert len(views) == 3 * len(IDS)
    alone = Viewed(pictures()[4:5], IDS[4:5], views.views, "image")
    for number in range(3):
        assert told(views[3 * 4 + number]) == told(alone[number])


def test_the_first_views_do_not_depend_on_how_many_there_are() -> None:
    few, many = viewed("crop-flip", mix="mixup", count=2), viewed("crop-flip", mix="mixup", count=5)
    for example in range(len(IDS)):
        for number in range(2):
            assert told(few[2 * example + number]) == told(many[5 * example + number])


@pytest.mark.parametrize("mix", ["none", "mixup", "cutmix"])
def test_the_order_of_the_examples_changes_no_view(mix: str) -> None:
    order = np.random.default_rng(3).permutation(len(IDS))
    images = pictures()
    views = Views(count=2, augment="crop", mix=mix)
    turned = Viewed([images[at] for at in order], IDS[order], views, "image")
    straight = Viewed(images, IDS, views, "image")
    for place, at in enumerate(order):
        for number in range(2):
            assert told(turned[2 * place + number]) == told(straight[2 * at + number])


@pytest.mark.parametrize("change", [{"seed": 1}, {"augment": "strong"}, {"mix": "mixup"}])
def test_other_numbers_give_other_views(change: dict[str, Any]) -> None:
    assert all_of(viewed(**change)) != all_of(viewed())


def test_ids_that_differ_give_other_views_of_the_same_picture() -> None:
    image = pictures()[0]
    views = Viewed([image] * 20, np.arange(20), Views(count=2, augment="crop"), "image")
    assert len({told(view) for view in views}) > 20


def test_a_slice_is_made_when_asked_for() -> None:
    class Counted(list[Image.Image]):
        opened = 0

        def __getitem__(self, index: Any) -> Any:
            Counted.opened += 1
            return super().__getitem__(index)

    views = Viewed(Counted(pictures()), IDS, Views(count=2, augment="crop"), "image")
    some = views[3:9][1:5]
    assert (len(some), Counted.opened) == (4, 0)
    assert [told(view) for view in some] == all_of(viewed("crop", count=2))[4:8]
    assert Counted.opened == 2  # an example is opened once for views that follow each other
    assert told(views[-1]) == told(views[len(views) - 1])
    for beyond in (len(views), -len(views) - 1):
        with pytest.raises(IndexError):
            views[beyond]


@pytest.mark.parametrize(("augment", "mix"), KINDS)
def test_views_can_be_sent_to_another_process_also_once_used(augment: str, mix: str) -> None:
    views = viewed(augment, mix=mix)
    expected = all_of(views)
    assert all_of(pickle.loads(pickle.dumps(views))) == expected


def test_a_picture_of_another_mode_is_read_as_rgb() -> None:
    grey = pictures()[0].convert("L")
    views = Views(count=2, augment="crop")
    found = Viewed([grey], IDS[:1], views, "image")[1]
    assert found.mode == "RGB"
    assert told(found) == told(Viewed([grey.convert("RGB")], IDS[:1], views, "image")[1])


def flat(colour: int, size: tuple[int, int] = (4, 4)) -> Image.Image:
    return Image.new("RGB", size, (colour, colour, colour))


def test_mixup_is_the_share_of_one_and_the_rest_of_the_other() -> None:
    """0.25 · 200 + 0.75 · 100 = 125; 0.3 · 11 + 0.7 · 20 = 17.3, rounded down."""
    assert np.unique(np.asarray(mixup(flat(200), flat(100), 0.25))) == [125]
    assert np.unique(np.asarray(mixup(flat(11), flat(20), 0.3))) == [17]
    assert told(mixup(flat(7), flat(90), 1.0)) == told(flat(7))
    assert told(mixup(flat(7), flat(90), 0.0)) == told(flat(90))


def test_cutmix_pastes_the_partners_pixels_of_the_same_place() -> None:
    image, partner = pictures()[0], pictures()[4]
    found = np.asarray(cutmix(image, partner, (3, 5, 10, 30)))
    expected = np.asarray(image).copy()
    expected[5:30, 3:10] = np.asarray(partner)[5:30, 3:10]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("size", "share", "centre", "box"),
    [
        ((40, 20), 0.75, (0.5, 0.5), (10, 5, 30, 15)),  # half of each side is a quarter of the area
        ((40, 20), 0.75, (0.0, 1.0), (0, 15, 10, 20)),  # what sticks out is lost
        ((40, 20), 0.0, (0.5, 0.5), (0, 0, 40, 20)),
        ((40, 20), 1.0, (0.5, 0.5), (20, 10, 20, 10)),
    ],
)
def test_a_cut_has_the_area_that_the_share_leaves(
    size: tuple[int, int],
    share: float,
    centre: tuple[float, float],
    box: tuple[int, int, int, int],
) -> None:
    assert cut(size, share, centre) == box


@given(share=st.floats(0, 1), x=st.floats(0, 1), y=st.floats(0, 1), side=st.integers(1, 500))
def test_a_cut_lies_within_the_image(share: float, x: float, y: float, side: int) -> None:
    left, top, right, bottom = cut((side, 100), share, (x, y))
    assert 0 <= left <= right <= side
    assert 0 <= top <= bottom <= 100


def colours(count: int, size: tuple[int, int] = (32, 32)) -> list[Image.Image]:
    """One channel each, all others black: a mixture says which two went into it."""
    return [flat(10 + 20 * number, size) for number in range(count)]


def test_a_mixed_view_is_that_of_its_augmented_example_and_of_another() -> None:
    """Flat colours stay flat under a crop, so a cut shows both, and nothing else."""
    count = 6
    views = Views(count=60, augment="crop", mix="cutmix")
    made = Viewed(colours(count), np.arange(count) * 7, views, "image")
    own = [10 + 20 * number for number in range(count)]
    shares = []
    partners: dict[int, set[int]] = {number: set() for number in range(count)}
    for row, view in enumerate(made):
        number = row // 60
        pixels = np.asarray(view)[..., 0]
        found = set(np.unique(pixels).tolist())
        assert found <= set(own)
        assert len(found) <= 2
        partners[number] |= found - {own[number]}
        shares.append(float((pixels == own[number]).mean()))
    for number in range(count):  # every other one, and never itself
        assert partners[number] == set(own) - {own[number]}
    assert min(shares) < 0.2
    assert max(shares) > 0.95
    assert 0.5 < np.mean(shares) < 0.8  # half, and what sticks out of the image is not cut


def test_shares_of_mixup_are_uniform_and_partners_equally_likely() -> None:
    count, each = 5, 400
    views = Views(count=each, augment="crop", mix="mixup")
    black_and_white = [flat(0, (8, 8)), *[flat(255, (8, 8))] * (count - 1)]
    made = Viewed(black_and_white, np.arange(count), views, "image")
    shares = np.array([np.asarray(made[row])[0, 0, 0] / 255 for row in range(each)])
    assert abs(shares.mean() - 0.5) < 5 * np.sqrt(1 / 12 / each)
    assert abs((shares < 0.25).mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / each)
    mixed = [np.asarray(made[row])[0, 0, 0] < 250 for row in range(each, count * each)]
    # of four white ones, each meets the black one a quarter of the time
    assert abs(np.mean(mixed) - 0.25 * 250 / 255) < 5 * np.sqrt(0.25 * 0.75 / (4 * each))


def test_the_partner_has_a_crop_of_its_own_and_is_fitted_to_this_ones_size() -> None:
    small, large = pictures()[2], pictures()[3]
    pair = Viewed([small, large], IDS[:2], Views(count=40, augment="crop", mix="cutmix"), "image")
    assert {view.size for view in pair[:40]} == {small.size}
    assert {view.size for view in pair[40:]} == {large.size}
    same = Viewed([small, small], IDS[:2], Views(count=40, augment="crop", mix="mixup"), "image")
    crops = {told(augmentation("crop").draw([small], seed)[0]) for seed in range(200)}
    assert sum(told(view) not in crops for view in same) > 40  # two different crops, blended


def test_a_lone_example_has_none_to_be_mixed_with() -> None:
    alone = Viewed(pictures()[:1], IDS[:1], Views(count=2, augment="crop", mix="mixup"), "image")
    plain = Viewed(pictures()[:1], IDS[:1], Views(count=2, augment="crop"), "image")
    assert all_of(alone) == all_of(plain)


def test_what_views_are_goes_to_json_and_comes_back() -> None:
    views = Views(count=3, augment="strong", mix="cutmix", seed=5)
    told_so = views.describe()
    assert told_so == {"count": 3, "augment": "strong", "mix": "cutmix", "seed": 5}
    assert Views.from_json(told_so) == views


def test_a_digest_tells_whether_views_would_be_the_same() -> None:
    assert viewed("crop").digest() == viewed("crop").digest()
    others = [viewed("crop", seed=1), viewed("crop-flip"), viewed("crop", mix="mixup")]
    assert len({views.digest() for views in (viewed("crop"), *others)}) == 4
    assert viewed("token-dropout").digest() != viewed("token-dropout", seed=1).digest()


class _Unreadable(list[Any]):
    def __iter__(self) -> Iterator[Any]:
        raise NotImplementedError

    def __getitem__(self, index: Any) -> Any:
        raise ValueError(f"example {index} cannot be read")


def test_what_an_unreadable_example_raises_is_raised() -> None:
    views = Viewed(_Unreadable([0] * 7), IDS, Views(count=2, augment="crop"), "image")
    with pytest.raises(ValueError, match="example 3 cannot be read"):
        views[7]


@pytest.mark.parametrize(
    ("changes", "modality", "message"),
    [
        ({"count": 0}, "image", "at least 1 view of each example, got 0"),
        ({"mix": "mixed"}, "image", "mixed by none, mixup, cutmix, not by 'mixed'"),
        ({"mix": "mixup", "augment": "token-dropout"}, "text", "mixup mixes images, and these"),
        ({"augment": "token-dropout"}, "image", "token-dropout is for texts"),
        ({}, "text", "crop is for images"),
        ({"augment": "corp"}, "image", "no augmentation named 'corp'; did you mean 'crop'"),
    ],
)
def test_views_that_cannot_be_are_refused(
    changes: dict[str, Any], modality: str, message: str
) -> None:
    given: dict[str, Any] = {"count": 2, "augment": "crop", **changes}
    with pytest.raises(StageError, match=message) as caught:
        Viewed(pictures(), IDS, Views(**given), modality)
    assert "\n" not in str(caught.value)


def test_ids_must_be_those_of_the_examples() -> None:
    with pytest.raises(StageError, match="7 examples have 6 ids"):
        Viewed(pictures(), IDS[1:], Views(count=2, augment="crop"), "image")
