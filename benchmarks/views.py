"""Making stored views again, against the same augmentation from global chance. Prints JSON.

A view costs what a plain augmentation costs and the seed. Both take turns on the same images in
memory, and each round gives a ratio of processor times: the median of those counts, since plain
augmentations draw other crops every round and some are cheaper. The bar is for the augmentations of
small and of large images; the ratios of others stand beside it.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data import auto_augment
from torchvision.transforms import v2

from distill.views import Viewed, Views

ROUNDS, EXAMPLES, COUNT = 41, 200, 4
TIMM = "rand-m9-mstd0.5"

Transform = Callable[[Any], Any]


def images(size: int) -> list[Image.Image]:
    """Noise."""
    noise = np.random.default_rng(0).integers(0, 256, (EXAMPLES, size, size, 3), dtype=np.uint8)
    return [Image.fromarray(pixels) for pixels in noise]


def small() -> Transform:
    crop = v2.RandomCrop((32, 32), padding=[4, 4], padding_mode="reflect")
    made: Transform = v2.Compose([crop, v2.RandomHorizontalFlip()])
    return made


def large() -> Transform:
    crop = v2.RandomResizedCrop((224, 224), scale=(0.35, 1.0), antialias=True)
    made: Transform = v2.Compose([crop, v2.RandomHorizontalFlip()])
    return made


def strong() -> Transform:
    made: Transform = v2.Compose([small(), v2.TrivialAugmentWide()])
    return made


def policy() -> Transform:
    settings = {"translate_const": int(32 * 0.45)}
    made: Transform = v2.Compose([small(), auto_augment.rand_augment_transform(TIMM, settings)])
    return made


def plainly(transform: Transform, examples: Sequence[Any], order: Sequence[int]) -> None:
    for row in order:
        transform(examples[row // COUNT])


def seeded(viewed: Viewed, order: Sequence[int]) -> None:
    for row in order:
        viewed[row]


def ratio(augment: str, size: int, transform: Transform) -> dict[str, float]:
    """Microseconds a view of both sides, and ours over theirs: medians over the rounds."""
    examples = images(size)
    views = Views(count=COUNT, augment=augment)
    viewed = Viewed(examples, np.arange(EXAMPLES), views, "image")
    order = np.random.default_rng(1).permutation(len(viewed))[:EXAMPLES].tolist()
    rivals = {
        "plain": partial(plainly, transform, examples, order),
        "view": partial(seeded, viewed, order),
    }
    times: dict[str, list[float]] = {name: [] for name in rivals}
    for turn in range(ROUNDS + 2):
        for name in sorted(rivals, reverse=bool(turn % 2)):
            begun = time.process_time()
            rivals[name]()
            if turn > 1:  # the first calls import, and make tables once
                times[name].append(1e6 * (time.process_time() - begun) / EXAMPLES)
    each = {name: float(np.median(found)) for name, found in times.items()}
    ratios = np.divide(times["view"], times["plain"])
    return {**each, "view / plain": float(np.median(ratios))}


def main() -> None:
    torch.set_num_threads(1)
    found = {
        "crop-flip, 32 px": ratio("crop-flip", 32, small()),
        "crop-flip, 224 px": ratio("crop-flip", 224, large()),
        "strong, 32 px": ratio("strong", 32, strong()),
        f"timm:{TIMM}, 32 px": ratio(f"timm:{TIMM}", 32, policy()),
    }
    report = {
        "bars": [
            {
                "what": f"view made again / plain augmentation, {name} (time)",
                "measured": round(found[name]["view / plain"], 3),
                "bar": 1.1,
                "better": "less",
            }
            for name in ("crop-flip, 32 px", "crop-flip, 224 px")
        ],
        "microseconds a view": {
            name: {side: round(value, 3) for side, value in sides.items()}
            for name, sides in found.items()
        },
        "versions": {"torch": torch.__version__},
    }
    json.dump(report, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
