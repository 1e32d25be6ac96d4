"""From factors to the widths that each kind is tried at, and what is left out."""

from collections.abc import Iterable, Sequence

from distill.errors import StageError
from distill.sweeping.maps import FULL, LEARNED, SUPERVISED, needs_data
from distill.sweeping.rows import Rows


def widths(
    kinds: Sequence[str], factors: Sequence[float], rows: Rows, *, classes: int, fewest: int
) -> tuple[dict[str, tuple[int, ...]], list[str]]:
    """Widths of each kind, largest first, and what is to be said of those left out or filled up.

    Factor 1 is the full head, which is always there and no map. ``StageError`` where nothing is
    left; ``UnknownKindError`` for a kind that does not exist. ``fewest`` is the least number of
    rows that a map is fitted on.
    """
    dims, notes = _dims(factors, rows.dim)
    asked = [kind for kind in dict.fromkeys(kinds) if kind != FULL]
    fitted = [kind for kind in asked if needs_data(kind)]
    if LEARNED in asked and not rows.fits:
        notes.append(
            f"{LEARNED} maps are trained on all features at once, which do not fit into the "
            "memory limit: they are left out; raise --memory-limit"
        )
        asked.remove(LEARNED)
        fitted.remove(LEARNED)
    if fitted and dims[0] > fewest:
        notes.append(
            f"{', '.join(fitted)} maps are fitted on as few as {fewest} rows: "
            f"{_told(k for k in dims if k > fewest)} is beyond them and left out"
        )
    found = {kind: tuple(k for k in dims if k <= fewest or kind not in fitted) for kind in asked}
    found = {kind: those for kind, those in found.items() if those}
    if not found:
        left_out = "; ".join(notes) or "name some with --kinds"
        raise StageError(f"no kind of map is left to sweep: {left_out}")
    filled = [kind for kind in found if kind in SUPERVISED and found[kind][0] > classes - 1]
    if filled:
        notes.append(
            f"{', '.join(filled)} maps have C - 1 = {classes - 1} dimensions of their own: at "
            f"{_told(k for k in found[filled[0]] if k > classes - 1)} they are filled up with "
            "principal directions"
        )
    return found, notes


def _told(dims: Iterable[int]) -> str:
    return f"k = {', '.join(map(str, dims))}"


def _dims(factors: Sequence[float], dim: int) -> tuple[tuple[int, ...], list[str]]:
    notes: list[str] = []
    made: dict[int, float] = {}
    for factor in sorted(set(factors)):
        k = round(dim / factor)
        if k < 1:
            notes.append(f"factor {factor:g} leaves nothing of {dim} dimensions and is left out")
        elif k in made:
            notes.append(
                f"factors {made[k]:g} and {factor:g} both give k = {k}, which is made once"
            )
        else:
            made[k] = factor
    dims = tuple(k for k in made if k < dim)
    if not dims:
        raise StageError(
            f"the factors {', '.join(f'{factor:g}' for factor in factors)} leave no width below "
            f"the {dim} dimensions there are: name others with --factors"
        )
    return dims, notes
