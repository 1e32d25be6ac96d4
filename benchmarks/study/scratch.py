"""Teachers taught from random weights, at d = 2,048: what every map keeps. Wants a GPU."""

from benchmarks.study.common import KINDS, extracted, swept, write
from benchmarks.study.frozen import draw, page

CASES = ("cifar10-resnet50", "tinyimagenet32-resnet50")
FACTORS = (2, 4, 8, 16, 32, 64, 128, 256)


def main() -> None:
    """Teach, extract, sweep, write; whatever ends it, the same command goes on."""
    parts = []
    for name in CASES:
        sweep = swept(extracted(name), kinds=KINDS, factors=FACTORS)
        draw(name, sweep)
        parts.append(page(name, sweep))
    write("scratch", "Teachers taught from random weights", *parts)


if __name__ == "__main__":
    main()
