"""Pictures of several sizes and modes, and views of them, for the tests of views.

Run as a program, ``python -m tests.views_examples AUGMENT MIX …``, it prints a hash of every view,
last one first: it is the other process that tests compare with.
"""

import hashlib
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from distill.views import Viewed, Views

SIZES = ((32, 32), (24, 40), (9, 8), (80, 70), (32, 32), (64, 64), (65, 30))
IDS = np.array([70, 3, 10**12 + 5, 12, 8, 1, 44])


def pictures() -> list[Image.Image]:
    """Noise, wider than it is high and the other way, small and large."""
    rng = np.random.default_rng(0)
    return [
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        for width, height in SIZES
    ]


def sentences() -> list[str]:
    """Of ten words each."""
    words = np.array(["red", "green", "blue", "cat", "dog", "tree", "moon", "sun", "sea", "sky"])
    rng = np.random.default_rng(0)
    return [" ".join(rng.permutation(words)) for _ in IDS]


def viewed(
    augment: str = "crop-flip", *, mix: str = "none", count: int = 3, seed: int = 0
) -> Viewed:
    """Views of the pictures, or of the sentences."""
    text = augment == "token-dropout"
    inputs: Sequence[Any] = sentences() if text else pictures()
    views = Views(count=count, augment=augment, mix=mix, seed=seed)
    return Viewed(inputs, IDS, views, "text" if text else "image")


def told(view: Any) -> str:
    """A hash of a picture's size and pixels; a text as it is."""
    if not isinstance(view, Image.Image):
        return repr(view)
    return f"{view.size} {view.mode} {hashlib.sha256(view.tobytes()).hexdigest()}"


if __name__ == "__main__":
    kinds = list(zip(sys.argv[1::2], sys.argv[2::2], strict=True))
    for augment, mix in reversed(kinds):
        asked = viewed(augment, mix=mix)
        for row in reversed(range(len(asked))):
            print(told(asked[row]))
