"""Numbers and tables as people read them."""

from collections.abc import Sequence

from distill import findings as f


def size(count: float) -> str:
    """Bytes as people read them."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def duration(seconds: float) -> str:
    """Seconds as people read them."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"


def percent(share: float) -> str:
    """A share as per cent."""
    return f"{100 * share:.2f} %"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns aligned: the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in [header, *rows]
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def difference(found: f.Difference | None) -> str:
    """Points with their interval; nothing where there is none."""
    if found is None:
        return ""
    interval = found.interval
    return f"{100 * found.value:+.2f} ({100 * interval.low:+.1f} to {100 * interval.high:+.1f})"


def size_beside(parameters: int, teachers: int) -> str:
    """``1/12`` of the teacher's, or ``3x`` of them; nothing where those are unknown."""
    if not teachers:
        return ""
    if parameters <= teachers:
        return f"1/{teachers / parameters:.0f}"
    return f"{parameters / teachers:.1f}x"
