"""The paper's ablation of objectives: its table beside ours, and where their orders agree."""

import json
from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from benchmarks.study.common import RESULTS, mean_and_half, points, table
from benchmarks.study.nested_mlp import BETWEEN, RANKS, over

FILE = "nested-cifar10-objectives.json"
ALONE = "CE of the full rank alone"
ORTHOGONAL = "CE of the full rank alone + orthogonality 0.1"
ORTHONORMAL = "CE of the full rank alone, factors kept orthonormal"
TWO = "two CEs (paper)"
DISTILLED = "two CEs + KL of logits 1, anchor fixed (anchor distils)"
ONE_DRAW = "two CEs, one draw of dropout for both"


def named(what: str, weight: float, *, moves: bool, told: bool = True) -> str:
    """A row of two CEs, or of the anchor's alone, one draw of dropout for both, and a term."""
    labels = "two CEs" if told else "the anchor's CE"
    return f"{labels} + {what} {weight:g}, anchor {'moves' if moves else 'fixed'}"


RESIDUAL = named("residual orthogonality", 0.1, moves=False)
HIDDEN = named("hidden match", 0.1, moves=False)
THEIRS = {  # anchor, trained ranks and interpolated ones: arXiv 2509.17874, CIFAR-10
    ALONE: (0.87, 0.48, 0.57),
    ORTHOGONAL: (0.87, 0.42, 0.50),
    ORTHONORMAL: (0.87, 0.42, 0.50),
    TWO: (0.88, 0.79, 0.81),
    DISTILLED: (0.87, 0.64, 0.64),
    RESIDUAL: (0.88, 0.78, 0.80),
    HIDDEN: (0.88, 0.79, 0.79),
}
BESIDE = {ORTHOGONAL: ALONE, ORTHONORMAL: ALONE, ONE_DRAW: TWO, DISTILLED: TWO, ALONE: TWO}

Found = Mapping[str, Sequence[Mapping[str, Any]]]  # by row, of each seed


def objectives() -> tuple[str, list[str]]:
    """The section of the page and what it says of the order; nothing before it was measured."""
    path = RESULTS / FILE
    if not path.exists():
        return "", []
    told = json.loads(path.read_text())
    return section(told), list(order(told["rows"]))


def section(told: Mapping[str, Any]) -> str:
    """The table, and how it was made."""
    found: Found = told["rows"]
    seeds = len(found[TWO])
    return (
        f"## The paper's ablation of objectives\n\n`python -m benchmarks.study.{told['command']}`. "
        "All rows taught anew in one run, as long as those above (two CEs 14 epochs, the full rank "
        f"alone 15); means and 95 % intervals over {seeds} seeds. What the paper's terms are is "
        "read simply, as their formulas are not at hand (`benchmarks/study/nested_terms.py`): "
        "orthogonality as a penalty of the factors' distance from orthonormal ones, or as factors "
        "that are made orthonormal before each step; the others between a variant and its anchor, "
        "which is held fixed (no gradient) or moves as well. Weights stand in the names. With the "
        "anchor's CE alone a variant learns the match and no labels. In brackets what a row is "
        "apart from its like without the term, in points, by seed: CE of the full rank alone and "
        "the anchor's CE with a match from two CEs. The last column is the root mean square of "
        "the anchor's logits about their mean, the median of the seeds.\n\n" + _table(found)
    )


def apart(found: Found, name: str, ranks: Sequence[int]) -> list[float]:
    """By seed, how many points a row is ahead of its like without the term, over these ranks."""
    pairs = zip(found[name], found[BESIDE.get(name, ONE_DRAW)], strict=True)
    return [100 * (over(one["test"], ranks) - over(like["test"], ranks)) for one, like in pairs]


def order(found: Found) -> Iterator[str]:
    """Where the order of the rows is the paper's and where not, one sentence set for each."""
    yield (
        f"The paper's ablation, CE of the full rank alone: {_both(found, ALONE)} beside two CEs "
        f"({_theirs(ALONE, TWO)} there): {_same(found, ALONE, falls=True)}."
    )
    yield (
        f"The paper's ablation, orthogonality of the factors beside CE alone: as a penalty "
        f"{_both(found, ORTHOGONAL)}, kept orthonormal {_both(found, ORTHONORMAL)} "
        f"({_theirs(ORTHOGONAL, ALONE)} there): {_same(found, ORTHOGONAL, falls=True)}. It makes "
        f"no factor the more important for standing first."
    )
    for name, what in ((RESIDUAL, "residual orthogonality"), (HIDDEN, "hidden match")):
        yield (
            f"The paper's ablation, {what} of weight 0.1 beside two CEs: {_both(found, name)} "
            f"({_theirs(name, TWO)} there): {_same(found, name, falls=False)}."
        )
    yield (
        f"The paper's ablation, logit match: {_both(found, DISTILLED)} as the KL of weight 1 to a "
        f"fixed anchor ({_theirs(DISTILLED, TWO)} there): "
        f"{_same(found, DISTILLED, falls=True)}."
    )
    yield from _logits(found)


# --- parts ----------------------------------------------------------------------------------------


def _logits(found: Found) -> Iterator[str]:
    matched = [name for name in found if "of logits" in name and name != DISTILLED]
    beside = [name for name in matched if name.startswith("two CEs")]
    fallen = [name for name in beside if _falls(found, name)]
    lost = [-sum(apart(found, name, RANKS[:1])) / len(found[name]) for name in fallen]
    yield (
        "Logit match beside both CEs, read otherwise: trained ranks and those in between are both "
        f"lower, their intervals below 0, with {_listed(fallen)}; not with "
        f"{_listed([name for name in beside if name not in fallen])}. Where they fall the anchor "
        f"falls too, by {min(lost):.1f} to {max(lost):.1f} points (paper: 1)."
    )
    moving = named("squared error of logits", 1.0, moves=True)
    yield (
        "What decides there is the weight, and whether the anchor is held fixed. Held fixed it is "
        "no fixed aim, as its factors are the variant's too: squared error of weight 1 leaves it "
        f"{_anchor(found, moving.replace('moves', 'fixed'))}. Where it moves it comes to meet the "
        f"variant: its logits are {_size(found, moving)} instead of {_size(found, ONE_DRAW)} and "
        f"it has {_anchor(found, moving)}."
    )
    near = min(matched, key=lambda name: _unlike(found, name))
    yield (
        "Nearest to the paper's fall, by what is left of the accuracy of two CEs (anchor, trained "
        f"ranks, between: {_percent(_left())} there), of all matches of logits: {near}, with "
        f"{_percent(_kept(found, near))}; of those beside both CEs: "
        f"{min(beside, key=lambda name: _unlike(found, name))}, with "
        f"{_percent(min((_kept(found, name) for name in beside), key=_distance))}. A match in "
        "place of the variant's CE leaves the anchor whole and the lower ranks wherever its weight "
        "puts them between CE alone and two CEs, which is where the paper's row lies. Whether "
        "theirs was made so is not known here."
    )


def _kept(found: Found, name: str) -> list[float]:
    """What of the accuracy without the term is left: anchor, trained ranks, between."""
    return [
        sum(over(one["test"], ranks) for one in found[name])
        / sum(over(one["test"], ranks) for one in found[ONE_DRAW])
        for ranks in (RANKS[:1], RANKS, BETWEEN)
    ]


def _left() -> list[float]:
    return [some / all_ for some, all_ in zip(THEIRS[DISTILLED], THEIRS[TWO], strict=True)]


def _unlike(found: Found, name: str) -> float:
    return _distance(_kept(found, name))


def _distance(kept: Sequence[float]) -> float:
    return max(abs(ours - theirs) for ours, theirs in zip(kept, _left(), strict=True))


def _percent(shares: Sequence[float]) -> str:
    return ", ".join(f"{100 * share:.0f}" for share in shares) + " %"


def _falls(found: Found, name: str) -> bool:
    """Whether both intervals lie below 0."""
    return all(sum(mean_and_half(apart(found, name, ranks))) < 0 for ranks in (RANKS, BETWEEN))


def _same(found: Found, name: str, *, falls: bool) -> str:
    """Whether the row falls as it does, or does not, in the paper."""
    shown = _falls(found, name)
    if shown == falls:
        return "the paper's order" if falls else "no fall of both here either"
    return "a fall of both, unlike the paper's" if shown else "no such fall here"


def _both(found: Found, name: str) -> str:
    trained, between = (_difference(apart(found, name, ranks)) for ranks in (RANKS, BETWEEN))
    return f"{trained} points at trained ranks and {between} in between"


def _theirs(name: str, like: str) -> str:
    _, trained, between = (
        100 * (ours - theirs) for ours, theirs in zip(THEIRS[name], THEIRS[like], strict=True)
    )
    return f"{trained:+.0f} and {between:+.0f}"


def _difference(values: Sequence[float]) -> str:
    mean, half = mean_and_half(values)
    return f"{mean:+.1f} ± {half:.1f}" if half == half else f"{mean:+.1f}"


def _anchor(found: Found, name: str) -> str:
    return points(*mean_and_half([over(one["test"], RANKS[:1]) for one in found[name]])) + " %"


def _size(found: Found, name: str) -> str:
    return f"{median(one['logits'] for one in found[name]):.3g}"


def _listed(names: Sequence[str]) -> str:
    return "; ".join(name.removeprefix("two CEs + ") for name in names) or "none"


def _table(found: Found) -> str:
    rows = []
    for name, of in found.items():
        cells = [_anchor(found, name).removesuffix(" %")]
        for ranks in (RANKS, BETWEEN):
            mean = points(*mean_and_half([over(one["test"], ranks) for one in of]))
            like = f" ({_difference(apart(found, name, ranks))})" if name != TWO else ""
            cells.append(mean + like)
        theirs = THEIRS.get(name)
        said = " / ".join(f"{100 * each:.0f}" for each in theirs) if theirs else ""
        rows.append([name, *cells, said, _size(found, name)])
    between = "/".join(map(str, BETWEEN))
    header = ["objective", "anchor", "trained ranks", f"between: {between}", "paper", "logits"]
    return table(header, rows)
