"""Augmented views of examples: a function of an example's id, the view's number and a seed.

The teacher sees a view when features are extracted and the student when it learns, in another
process and weeks later: both make it anew, with the same pixels or words, bit for bit. A view is
made before any preprocessing, so that teacher and student may read it at different sizes.
"""

import hashlib
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, final

import numpy as np
from jaxtyping import Int64
from PIL import Image

from distill.augmentations import augmentation, check_augmentation
from distill.errors import StageError

MIXES = ("none", "mixup", "cutmix")
PROVED = 8  # views that are looked at to tell whether all would be the same again
Box = tuple[int, int, int, int]  # left, top, right, bottom


@final
@dataclass(frozen=True, kw_only=True)
class Views:
    """Which views: ``count`` of each example; the first of them do not depend on how many.

    ``mix`` joins each view with one of another example, half of each on average: ``mixup`` blends
    (Zhang et al., 2018, arXiv:1710.09412), ``cutmix`` pastes a rectangle (Yun et al., 2019,
    arXiv:1905.04899). The share is uniform in both, which is what suits distillation (Beyer et
    al., 2022, arXiv:2106.05237). ``StageError`` for values that cannot be.
    """

    count: int
    augment: str
    mix: str = "none"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.count < 1:
            raise StageError(f"there must be at least 1 view of each example, got {self.count}")
        if self.mix not in MIXES:
            raise StageError(f"views are mixed by {', '.join(MIXES)}, not by {self.mix!r}")

    def check(self, modality: str) -> None:
        """Raise ``StageError`` where examples of this modality have no such views."""
        check_augmentation(self.augment, modality)
        if self.mix != "none" and modality != "image":
            raise StageError(f"{self.mix} mixes images, and these examples are {modality}s")

    def describe(self) -> dict[str, Any]:
        """All that decides the views, as plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> "Views":
        """Read back what ``describe`` wrote."""
        return cls(**plain)


@final
@dataclass(frozen=True, eq=False)
class Viewed(Sequence[Any]):
    """Every view of every example, made when asked for: an example's views one after the other.

    Entry r is view r % count of example r // count: an RGB image, a text or a pair of texts. It
    depends on that example's id, and with ``mix`` on which others there are, but neither on
    their order nor on what was asked for before. Picklable where ``inputs`` are.
    """

    inputs: Sequence[Any]
    ids: Int64[np.ndarray, " examples"]
    views: Views
    modality: str

    def __post_init__(self) -> None:
        if len(self.inputs) != len(self.ids):
            raise StageError(f"{len(self.inputs)} examples have {len(self.ids)} ids")
        self.views.check(self.modality)

    def __reduce__(self) -> tuple[type["Viewed"], tuple[Any, ...]]:
        return Viewed, (self.inputs, self.ids, self.views, self.modality)

    def __len__(self) -> int:
        return len(self.ids) * self.views.count

    def __getitem__(self, index: Any) -> Any:
        """One view, or a slice of them still unmade. What an unreadable input raises is raised."""
        if isinstance(index, slice):
            return _Some(self, range(len(self))[index])
        example, view = divmod(range(len(self))[index], self.views.count)
        seed, mixing = _seeds(self.views.seed, int(self.ids[example]), view)
        draw = self._draw
        if self.views.mix == "none" or len(self.ids) < 2:  # there is no other to mix with
            return draw([self._clean(example)], seed)[0]
        chance = random.Random(mixing)  # noqa: S311 - of its own: nothing global is touched
        other = self._other(example, chance)
        image, partner = draw([self._clean(example), self._clean(other)], seed)
        return _mixed(self.views.mix, image, partner, chance)

    def digest(self) -> str:
        """Sum up a few views spread over all: another means that they are not the same again.

        Other versions of libraries may draw, decode or resize otherwise.
        """
        found = hashlib.sha256()
        for row in np.linspace(0, len(self) - 1, num=min(PROVED, len(self))).astype(int):
            view = self[int(row)]
            image = isinstance(view, Image.Image)
            found.update(repr(view.size if image else view).encode())
            found.update(view.tobytes() if image else b"")
        return f"sha256:{found.hexdigest()}"

    def _clean(self, example: int) -> Any:
        """The example itself; the last one is kept, whose other views are often asked for next."""
        kept = self._last.get("kept")
        if kept is not None and kept[0] == example:
            return kept[1]
        clean = self.inputs[example]
        if isinstance(clean, Image.Image) and clean.mode != "RGB":
            clean = clean.convert("RGB")
        self._last["kept"] = (example, clean)
        return clean

    @cached_property
    def _last(self) -> dict[str, tuple[int, Any]]:
        return {}

    @cached_property
    def _draw(self) -> Callable[[Sequence[Any], int], list[Any]]:
        return augmentation(self.views.augment).draw

    def _other(self, example: int, chance: random.Random) -> int:
        """Draw another example: by its place among the ids in their order, all equally likely."""
        order, places = self._ranks
        place = chance.randrange(len(order) - 1)
        return int(order[place + (place >= places[example])])

    @cached_property
    def _ranks(self) -> tuple[np.ndarray, np.ndarray]:
        """Examples in the order of their ids, and the place of each in it."""
        order = np.argsort(self.ids, kind="stable")
        places = np.empty_like(order)
        places[order] = np.arange(len(order))
        return order, places


@final
@dataclass(frozen=True, eq=False)
class _Some(Sequence[Any]):
    """Some of the views, still unmade."""

    viewed: Viewed
    rows: range

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return _Some(self.viewed, self.rows[index])
        return self.viewed[self.rows[index]]


def mixup(image: Image.Image, partner: Image.Image, share: float) -> Image.Image:
    """``share`` of the image and the rest of its partner, pixel by pixel, rounded down."""
    return Image.blend(partner, image, share)


def cutmix(image: Image.Image, partner: Image.Image, box: Box) -> Image.Image:
    """Paste what the partner, of the same size, shows inside the box."""
    mixed = image.copy()
    mixed.paste(partner.crop(box), box)
    return mixed


def cut(size: tuple[int, int], share: float, centre: tuple[float, float]) -> Box:
    """Rectangle of ``1 - share`` of the area and the image's shape; what sticks out is lost.

    ``centre`` is in shares of width and height.
    """
    edge = math.sqrt(1 - share) / 2
    low, high = ([round(side * (at + sign * edge)) for side, at in zip(size, centre, strict=True)]
                 for sign in (-1, 1))  # fmt: skip
    (left, top), (right, bottom) = low, high
    return max(left, 0), max(top, 0), min(right, size[0]), min(bottom, size[1])


def _mixed(
    mix: str, image: Image.Image, partner: Image.Image, chance: random.Random
) -> Image.Image:
    if partner.size != image.size:
        partner = partner.resize(image.size, Image.Resampling.BILINEAR)
    share = chance.random()
    if mix == "mixup":
        return mixup(image, partner, share)
    return cutmix(image, partner, cut(image.size, share, (chance.random(), chance.random())))


def _seeds(seed: int, example: int, view: int) -> tuple[int, int]:
    """Two independent 64-bit seeds of one view: for its augmentation, and for the mixing."""
    found = hashlib.blake2b(f"{seed} {example} {view}".encode(), digest_size=16).digest()
    return int.from_bytes(found[:8], "little"), int.from_bytes(found[8:], "little")
