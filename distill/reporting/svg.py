"""Drawing in SVG, by hand: scales, ticks and escaped elements; knows nothing of findings.

Colours are CSS classes of the page, so a drawing follows its light and dark theme. The same
arguments give the same bytes everywhere: no library draws, no date or random id gets in.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from distill.reporting.text import plain

Number = float | int


def element(tag: str, *children: str, **attributes: str | Number) -> str:
    """One element. Values are escaped; children are elements already, or come from ``text``.

    ``class_`` and ``stroke_width`` become ``class`` and ``stroke-width``.
    """
    written = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{_value(value)}"'
        for name, value in attributes.items()
    )
    inner = "".join(children)
    return f"<{tag}{written}>{inner}</{tag}>" if inner else f"<{tag}{written}/>"


def _value(value: str | Number) -> str:
    if isinstance(value, str):
        return escape(plain(value), quote=True)
    return coordinate(value)


def coordinate(value: Number) -> str:
    """Two decimals of a pixel, no trailing zeros, never "-0"."""
    shown = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if shown == "-0" else shown


def text(x: float, y: float, content: str, class_: str = "", anchor: str = "start") -> str:
    """A line of text; what data brought is made printable and escaped."""
    inner = escape(plain(content), quote=False)
    return element("text", inner, x=x, y=y, class_=f"t {class_}".strip(), text_anchor=anchor)


def title(content: str) -> str:
    """What a pointer resting on the parent element is shown."""
    return element("title", escape(plain(content), quote=False))


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> str:
    """A straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def rect(x: float, y: float, width: float, height: float, class_: str) -> str:
    """A rectangle."""
    return element("rect", x=x, y=y, width=width, height=height, class_=class_)


def path(points: Iterable[tuple[float, float]], class_: str, *, closed: bool = False) -> str:
    """Draw a polyline, or the area it surrounds."""
    corners = "M" + "L".join(f"{coordinate(x)} {coordinate(y)}" for x, y in points)
    if closed:
        return element("path", d=f"{corners}Z", class_=class_)
    return element("path", d=corners, class_=class_, fill="none")


def drawing(width: float, height: float, label: str, *children: str) -> str:
    """The whole picture, as wide as its place allows; ``label`` is read to who cannot see it."""
    return element(
        "svg",
        *children,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {coordinate(width)} {coordinate(height)}",
        role="img",
        aria_label=label,
    )


@dataclass(frozen=True)
class Scale:
    """Values -> pixels, linear or logarithmic."""

    low: float
    high: float
    start: float  # pixel of ``low``
    stop: float  # pixel of ``high``
    log: bool = False

    def __call__(self, value: float) -> float:
        """The pixel of a value; values outside are drawn at the edge."""
        low, high, at = (
            (math.log(v) for v in (self.low, self.high, max(value, self.low)))
            if self.log
            else (self.low, self.high, value)
        )
        share = min(max((at - low) / (high - low), 0.0), 1.0)
        return self.start + share * (self.stop - self.start)


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers from ``low`` to ``high``, in steps of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / max(about, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(s * power for s in (1, 2, 5, 10) if s * power >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(at * step, 10) for at in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times the powers of ten between ``low`` and ``high``; fewer when they are many.

    Where there are fewer than two of them, other round numbers.
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps: Sequence[int] = (1,) if len(powers) > 4 else (1, 2, 5)
    every = [step * 10.0**power for power in powers for step in steps]
    found = [value for value in every if low * (1 - 1e-9) <= value <= high * (1 + 1e-9)]
    return found if len(found) > 1 else ticks(low, high)


@dataclass(frozen=True)
class Box:
    """The room a label takes."""

    x: float
    y: float
    width: float
    height: float

    def meets(self, other: "Box") -> bool:
        """Whether the two overlap."""
        return (
            self.x < other.x + other.width
            and other.x < self.x + self.width
            and self.y < other.y + other.height
            and other.y < self.y + self.height
        )


def place_label(
    content: str, spots: Sequence[tuple[float, float, str]], taken: list[Box], within: Box
) -> tuple[float, float, str] | None:
    """Find the first spot (x, y, anchor) with room for a line of text; None where no spot has.

    The room found is added to ``taken``.
    """
    width, height = 6.6 * len(content) + 4, 14.0
    shift = {"start": 0.0, "end": -width, "middle": -width / 2}
    for x, y, anchor in spots:
        box = Box(x + shift[anchor], y - 11, width, height)
        inside = (
            within.x <= box.x
            and box.x + width <= within.x + within.width
            and within.y <= box.y
            and box.y + height <= within.y + within.height
        )
        if inside and not any(box.meets(other) for other in taken):
            taken.append(box)
            return x, y, anchor
    return None
