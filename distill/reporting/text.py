"""How numbers and names are written: one function a kind of quantity, the same in every format."""

import unicodedata
from pathlib import PurePath

from distill.findings import Difference, Interval

DASH = "–"
MINUS = "−"
NOTHING = "—"  # a cell that has no value


def plain(name: str, *, most: int = 0) -> str:
    """Make a name from data fit to print: one line, nothing invisible, at most ``most`` characters.

    Control characters (a terminal obeys them, XML forbids them) and lone surrogates (which no
    file can hold) become visible replacements; marks that reverse the reading order go.
    """
    shown = "".join(_shown(character) for character in name)
    shown = " ".join(shown.split())
    return shown if not most or len(shown) <= most else shown[: most - 1].rstrip() + "…"


def _shown(character: str) -> str:
    if character.isspace():
        return " "
    category = unicodedata.category(character)
    if category in {"Cc", "Cs", "Cn"}:
        return "\N{REPLACEMENT CHARACTER}"
    reverses = "\u202a" <= character <= "\u202e" or "\u2066" <= character <= "\u2069"
    return "" if reverses else character


def teacher(name: str) -> str:
    """hf//home/me/minilm -> hf/minilm: of a folder only its own name; imported features have none.

    A place on one machine means nothing to who reads the report, and may be private.
    """
    family, _, place = name.partition("/")
    local = place.startswith(("/", "~", "."))
    return plain(f"{family}/{PurePath(place).name}" if local else name) or "imported features"


def stored_kind(kind: str, dtype: str) -> str:
    """A kind of map, and the type its rows are stored in where that is not the usual one."""
    return kind if dtype == "float32" else f"{kind}, {dtype}"


def percent(share: float) -> str:
    """0.9753 -> 97.5."""
    return f"{100 * share:.1f}"


def percent_interval(interval: Interval) -> str:
    """95.3–98.7."""
    return f"{percent(interval.low)}{DASH}{percent(interval.high)}"


def points(value: float) -> str:
    """-0.0123 -> −1.2; always signed, except zero."""
    size = f"{abs(100 * value):.1f}"
    if float(size) == 0:
        return size
    return f"{'+' if value > 0 else MINUS}{size}"


def difference(found: Difference | None) -> str:
    """−1.2 (−2.5 to +0.1)."""
    if found is None:
        return NOTHING
    low, high = points(found.interval.low), points(found.interval.high)
    return f"{points(found.value)} ({low} to {high})"


def told_difference(found: Difference) -> str:
    """−1.2 points (95 %: −2.5 to +0.1), for sentences."""
    low, high = points(found.interval.low), points(found.interval.high)
    return f"{points(found.value)} points (95 %: {low} to {high})"


def count(number: float) -> str:
    """1234567 -> 1,234,567."""
    return f"{number:,.0f}"


def rounded(number: float) -> str:
    """Three figures, for numbers read at a glance: 23.5 M, 325 k, 97."""
    for size, unit in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= 0.9995 * size:
            return f"{three_figures(number / size)}{unit}"
    return three_figures(number)


def three_figures(number: float) -> str:
    """Three figures and no exponent: 0.0123, 1.23, 12.3, 123, 1,234."""
    if number == 0:
        return "0"
    if abs(number) >= 99.95:
        return f"{number:,.0f}"
    if abs(number) >= 9.995:
        return f"{number:.1f}".removesuffix(".0")
    if abs(number) >= 0.9995:
        return f"{number:.2f}".rstrip("0").rstrip(".")
    return f"{number:.3g}" if abs(number) >= 1e-4 else f"{number:.1e}"


def size(number: float) -> str:
    """Bytes in the units of disks, powers of 1000: 94.3 MB, 512 B."""
    if number < 999.5:
        return f"{number:.0f} B"
    shown = rounded(number)
    return f"{shown}B" if shown[-1].isalpha() else f"{shown} B"


def factor(value: float) -> str:
    """16 -> 16×, 10.67 -> 10.7×."""
    return f"{three_figures(value)}×"


def duration(seconds: float) -> str:
    """0.00123 -> 1.23 ms; 75 -> 75 s; 300 -> 5.0 min."""
    if seconds < 0.9995e-3:
        return f"{three_figures(seconds * 1e6)} µs"
    if seconds < 0.9995:
        return f"{three_figures(seconds * 1e3)} ms"
    return f"{three_figures(seconds)} s" if seconds < 100 else f"{seconds / 60:.1f} min"
