"""The table of augmentations by name, and how one is drawn from a seed and from nothing else.

Libraries draw from global generators. ``seeded`` gives them a seed for as long as one view takes
and puts back what was there, so that a view is the same in every process, and whoever draws
from the same generators elsewhere is not disturbed.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Literal, final

import numpy as np
import torch
from PIL import Image

from distill.errors import StageError, first_line, nearest

SMALL = 64  # pixels of the longer side up to which a crop keeps the scale
MARGIN = 8  # an eighth of each side is added around a small image before it is cropped
SCALE = (0.35, 1.0)  # share of the area that a crop of a larger image keeps
DROPPED = 0.15  # share of a text's words that are left out
TIMM = "timm:"  # before the name of a policy of timm, of timm.data.auto_augment
TIMM_FORMS = ("rand", "augmix")

Transform = Callable[[Any], Any]  # of one PIL image
Size = tuple[int, int]  # width, height


@final
@dataclass(frozen=True)
class Augmentation:
    """How the examples of one modality are changed by chance.

    ``draw`` makes a view of each example, one after the other, from one seed.
    """

    modality: Literal["image", "text"]
    draw: Callable[[Sequence[Any], int], list[Any]]


def augmentation(name: str) -> Augmentation:
    """The augmentation of this name; ``StageError`` names the nearest one."""
    if name in NAMED:
        return NAMED[name]
    if name.startswith(TIMM):
        return _timm_named(name)
    known = ", ".join((*NAMED, f"{TIMM}rand-m9-mstd0.5"))
    raise StageError(f"no augmentation named {name!r}{nearest(name, NAMED)} (known: {known})")


def check_augmentation(name: str, modality: str) -> None:
    """Refuse a name that is not known, and one for examples of another modality."""
    found = augmentation(name)
    if found.modality != modality:
        fitting = ", ".join(n for n, other in NAMED.items() if other.modality == modality)
        raise StageError(
            f"the augmentation {name} is for {found.modality}s, and these examples are "
            f"{modality}s; use {fitting}"
        )


def seeded(work: Callable[[], list[Any]], seed: int) -> list[Any]:
    """Do the work with torch's CPU generator started from ``seed`` (64 bits); it is put back."""
    generator = torch.default_generator
    before = generator.get_state()
    try:
        generator.manual_seed(seed)
        return work()
    finally:
        generator.set_state(before)


def seeded_too(work: Callable[[], list[Any]], seed: int) -> list[Any]:
    """The same with Python's own generator and NumPy's old one.

    Keeping those two costs as much as a crop of a small image.
    """
    python, numpy = random.getstate(), np.random.get_state(legacy=False)  # noqa: NPY002
    try:
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        return seeded(work, seed)
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002


def _images(
    steps: Callable[[Size], Transform], *, guard: Callable[..., list[Any]] = seeded
) -> Augmentation:
    """An augmentation of images; ``steps`` makes the transform for one size of them."""
    made = lru_cache(maxsize=64)(steps)

    def draw(images: Sequence[Any], seed: int) -> list[Any]:
        transforms = [made(image.size) for image in images]  # made outside: nothing may draw
        return guard(
            lambda: [do(image) for do, image in zip(transforms, images, strict=True)], seed
        )

    return Augmentation("image", draw)


def _crop(size: Size) -> Transform:
    """A crop of the image's own size: moved by up to an eighth if small, else zoomed into."""
    from torchvision.transforms import v2

    width, height = size
    if max(size) <= SMALL:
        return partial(_moved, margin=[max(1, side // MARGIN) for side in size])
    crop: Transform = v2.RandomResizedCrop((height, width), scale=SCALE, antialias=True)
    return crop


def _moved(image: Image.Image, *, margin: Sequence[int]) -> Any:
    """What ``v2.RandomCrop`` does with a reflected margin, at two thirds of its cost."""
    from torchvision.transforms.v2 import functional

    wide = functional.pad(image, list(margin), padding_mode="reflect")
    left, top = (int(torch.randint(2 * free + 1, ())) for free in margin)
    return functional.crop(wide, top, left, image.height, image.width)


def _flipped(image: Image.Image) -> Any:
    """Half of them."""
    from torchvision.transforms.v2 import functional

    return functional.horizontal_flip(image) if torch.rand(()) < 0.5 else image


def _crop_flip(size: Size) -> Transform:
    from torchvision.transforms import v2

    made: Transform = v2.Compose([_crop(size), _flipped])
    return made


def _strong(size: Size) -> Transform:
    """And one change of colour or shape of any strength (Müller and Hutter, 2021)."""
    from torchvision.transforms import v2

    made: Transform = v2.Compose([_crop_flip(size), v2.TrivialAugmentWide()])
    return made


@lru_cache(maxsize=16)
def _timm_named(name: str) -> Augmentation:
    """A crop, a flip and a policy of timm, which draws from Python's and NumPy's generators."""
    policy = name.removeprefix(TIMM)
    form = policy.partition("-")[0]
    if form not in TIMM_FORMS:
        known = ", ".join(TIMM_FORMS)
        raise StageError(
            f"no policy of timm named {policy!r}{nearest(form, TIMM_FORMS)} (they begin with: "
            f"{known}, like {TIMM}rand-m9-mstd0.5)"
        )

    def steps(size: Size) -> Transform:
        from torchvision.transforms import v2

        change = partial(_changed, policy=_timm_policy(form, policy, min(size)))
        made: Transform = v2.Compose([_crop_flip(size), change])
        return made

    try:
        steps((32, 32))
    except (AssertionError, ValueError, KeyError, TypeError) as error:
        raise StageError(f"timm cannot read the policy {policy!r}: {first_line(error)}") from error
    return _images(steps, guard=seeded_too)


def _timm_policy(form: str, policy: str, side: int) -> Transform:
    """As ``timm.data.create_transform`` makes it: shifts in proportion to the shorter side."""
    from timm.data import auto_augment

    made: Transform
    if form == "augmix":
        made = auto_augment.augment_and_mix_transform(policy, {"translate_pct": 0.3})
    else:
        made = auto_augment.rand_augment_transform(policy, {"translate_const": int(side * 0.45)})
    return made


def _changed(image: Image.Image, *, policy: Transform) -> Any:
    """What a policy makes of an image, or the image itself where it would keep no bit of it.

    timm asks for that at the strongest level of posterizing, and newer versions of Pillow refuse.
    """
    try:
        return policy(image)
    except ValueError as error:
        if "bits" not in str(error):
            raise
        return image


def _drop_words(texts: Sequence[Any], seed: int) -> list[Any]:
    """Each text, and each of a pair, without some of its words."""
    rng = random.Random(seed)  # noqa: S311 - of its own: nothing global is touched
    return [
        _thinned(text, rng)
        if isinstance(text, str)
        else tuple(_thinned(part, rng) for part in text)
        for text in texts
    ]


def _thinned(text: str, rng: random.Random) -> str:
    """Every word goes with a chance of ``DROPPED``; of the words that there are one stays."""
    words = text.split()
    kept = [word for word in words if rng.random() >= DROPPED]
    return " ".join(kept or ([rng.choice(words)] if words else []))


NAMED: dict[str, Augmentation] = {
    "crop-flip": _images(_crop_flip),
    "crop": _images(_crop),  # digits and letters must not be mirrored
    "strong": _images(_strong),
    "token-dropout": Augmentation("text", _drop_words),
}
