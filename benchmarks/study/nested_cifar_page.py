"""The page of the nested perceptrons: tables, bars, and the course of the weights."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.study.common import RESULTS, mean_and_half, points, table, write
from benchmarks.study.figure import Line, chart
from benchmarks.study.nested_mlp import BETWEEN, RANKS, over
from benchmarks.study.nested_objectives_page import objectives

NAME = "nested-cifar10"
BAR = 0.5  # points that one nested network may be behind separate ones, on average over ranks
CE_ONLY = "CE of the full rank alone"
PAPER = "paper"

Tested = Mapping[str, float]  # accuracy by rank


def page(found: Mapping[str, Any]) -> None:
    """Write the page, its data and its drawing."""
    separate = [{rank: one["test"][rank] for rank, one in of.items()} for of in found["separate"]]
    whole = [of[str(RANKS[0])] for of in found["separate"]]
    mains = {name: _tested(found["designs"][name]) for name in found["long"]}
    epochs = found["epochs"]
    for name, of in found["long"].items():
        if of:
            mains[f"{name}, {epochs[name]} epochs"] = _tested(of)
    cuts = {
        "truncated as it stands": _tested(whole),
        "truncated by SVD": [one["cut"]["svd"]["test"] for one in whole],
        "truncated by whitened SVD": [one["cut"]["whitened"]["test"] for one in whole],
    }
    every = {CE_ONLY: whole} | {name: of for name, of in found["designs"].items() if of}
    seeds = min(len(of) for of in every.values())  # the same for all, to be compared
    ablated = {name: _tested(of[:seeds]) for name, of in every.items()}
    more, order = objectives()
    reasons = [*_reasons(found, separate, cuts), *order]
    write(
        NAME,
        "Nested perceptrons on CIFAR-10: one network beside one for each rank",
        _setting(found),
        "## The table\n\n" + _ranks_table({"separate, one for each rank": separate} | mains | cuts),
        "## Bars\n\n" + "\n".join(f"- {line}" for line in _bars(separate, mains, cuts, ablated)),
        "\n## Why\n\n" + "\n".join(f"- {line}" for line in reasons),
        "\n## Objectives, starts and draws\n\n" + _ablation(ablated, epochs["nested"]),
        *([more] if more else []),
        "## The course of the weights\n\n"
        + _course(found["long"][PAPER] or found["designs"][PAPER]),
        command=found["command"],
    )
    text = json.dumps(_told(found), indent=1, sort_keys=True)
    (RESULTS / f"{NAME}.json").write_text(text + "\n")


# --- arithmetic -----------------------------------------------------------------------------------


def behind(
    nested: Sequence[Tested], separate: Sequence[Tested], ranks: Sequence[int]
) -> list[float]:
    """By seed, how many points the nested network is behind separate ones on average over ranks.

    Of the first seeds, where fewer nested networks were taught.
    """
    pairs = zip(nested, separate[: len(nested)], strict=True)
    return [100 * (over(apart, ranks) - over(one, ranks)) for one, apart in pairs]


def log10_weights(course: Sequence[Sequence[float]]) -> list[tuple[float, float]]:
    """(epoch, log10 of the weight) of each epoch in which the rank was drawn."""
    return [(epoch, math.log10(weight)) for epoch, weight in course]


# --- parts ----------------------------------------------------------------------------------------


def _tested(found: Sequence[Mapping[str, Any]]) -> list[Tested]:
    return [one["test"] for one in found]


def _setting(found: Mapping[str, Any]) -> str:
    rows, epochs, chosen = found["rows"], found["epochs"], found["chosen"]
    dense = points(*mean_and_half([one["test"] for one in found["dense"]]))
    rates = ", ".join(f"{name}: {rate:g}" for name, rate in chosen.items())
    return (
        f"MobileNetV2's embeddings at 96 px of strongly compressed images, along their first 256 "
        f"principal directions ({100 * found['variance']:.1f} % of the variance of the scaled "
        f"columns); {rows['train']:,} training, {rows['validation']:,} validation and "
        f"{rows['test']:,} test rows. A perceptron with two hidden layers of 256, both factored, R "
        f"= 64; its head is dense. Each of the seven separate ones learns {epochs['separate']} "
        f"epochs, one pass over the rows each; one nested network {epochs['nested']}, of two "
        f"passes (a sandwich takes three, every rank seven: {len(RANKS) * epochs['nested']} "
        f"passes in all, where the paper's objective takes {2 * epochs['nested']} and the separate "
        f"ones {len(RANKS) * epochs['separate']} together) unless more epochs are said. Of each, "
        f"the best epoch on validation. Three learning rates each for every separate rank and for "
        f"each main nested design, chosen on validation with seed 0 ({rates}); the others take the "
        f"paper's. Test accuracy in %, mean and 95 % interval over {len(found['separate'])} seeds "
        f"where there are several. The dense perceptron: {dense}.\n"
    )


def _ranks_table(found: Mapping[str, Sequence[Tested]]) -> str:
    rows = [
        [name, *(_cell([one[str(rank)] for one in of]) for rank in reversed(RANKS))]
        for name, of in found.items()
    ]
    return table(["rank", *map(str, reversed(RANKS))], rows)


def _ablation(found: Mapping[str, Sequence[Tested]], epochs: int) -> str:
    rows = [
        [
            name,
            _cell([one[str(RANKS[0])] for one in of]),
            _cell([over(one, RANKS) for one in of]),
            _cell([over(one, BETWEEN) for one in of]),
        ]
        for name, of in found.items()
    ]
    between = "/".join(map(str, BETWEEN))
    seeds = min(len(of) for of in found.values())
    which = "the first seed alone" if seeds == 1 else f"the first {seeds} seeds"
    told = f"{epochs} epochs each; {which}.\n\n"
    return told + table(["design", "anchor", "trained ranks", f"between: {between}"], rows)


def _cell(values: Sequence[float]) -> str:
    return points(*mean_and_half(values))


def _bars(
    separate: Sequence[Tested],
    mains: Mapping[str, Sequence[Tested]],
    cuts: Mapping[str, Sequence[Tested]],
    ablated: Mapping[str, Sequence[Tested]],
) -> Iterator[str]:
    for name, of in mains.items():
        mean, _ = mean_and_half(behind(of, separate, RANKS))
        low = max(RANKS, key=lambda rank: sum(behind(of, separate, [rank])))
        worst, _ = mean_and_half(behind(of, separate, [low]))
        yield (
            f"{name}: {_points_behind(of, separate)} ({'met' if mean <= BAR else 'not met'}: at "
            f"most {BAR:g}); most at rank {low}: {worst:.1f}."
        )
    for name, of in cuts.items():
        yield f"{name}: {_points_behind(of, separate)}."
    order = sorted(ablated, key=lambda name: -_between(ablated[name]))
    told = ", ".join(f"{name} {100 * _between(ablated[name]):.1f}" for name in order)
    yield f"By ranks in between, of the designs below: {told}."


def _reasons(
    found: Mapping[str, Any], separate: Sequence[Tested], cuts: Mapping[str, Sequence[Tested]]
) -> Iterator[str]:
    lost = [mean_and_half(behind(of, separate, RANKS))[0] for of in cuts.values()]
    yield (
        f"Truncation: of the {lost[0]:.1f} points that the network loses as it stands, "
        f"{lost[0] - lost[1]:.1f} are the order of its factors, which an SVD of their products "
        f"puts right without a step, and {lost[0] - lost[2]:.1f} with the inputs known."
    )
    taught = found["long"][PAPER] or found["designs"][PAPER]
    last = [course[-1][1] for one in taught for course in one["weights"].values()]
    yield (
        f"Weighings: the paper's weights end between {min(last):.2f} and {max(last):.2f} (its own "
        f"anchor: about 470). Dropout and the best epoch on validation keep rows from being known "
        f"by heart, so uncertainty, clamped and equal weights are nearly the same here."
    )
    for name, of in found["long"].items():
        if of:
            behind_long = behind(_tested(of), _tested(found["designs"][name]), RANKS)
            gain = -sum(behind_long) / len(behind_long)
            short = mean_and_half(behind(_tested(found["designs"][name]), separate, RANKS))[0]
            told = (
                ": what it is behind is not a lack of steps" if gain < BAR and short > BAR else ""
            )
            yield (
                f"Passes: {found['epochs'][name]} epochs instead of {found['epochs']['nested']} "
                f"change the mean over ranks by {gain:+.1f} points ({name}; "
                f"{len(behind_long)} of the seeds){told}."
            )


def _points_behind(of: Sequence[Tested], separate: Sequence[Tested]) -> str:
    mean, half = mean_and_half(behind(of, separate, RANKS))
    spread = f" ± {half:.2f}" if half == half else ""
    return f"{mean:.2f}{spread} points behind separate networks on average over ranks"


def _between(found: Sequence[Tested]) -> float:
    return sum(over(one, BETWEEN) for one in found) / len(found)


def _course(paper: Sequence[Mapping[str, Any]]) -> str:
    courses = paper[0]["weights"]
    lines = [Line(f"rank {rank}", log10_weights(courses[str(rank)])) for rank in RANKS]
    chart(f"{NAME}-weights.svg", lines, x="epoch", y="log10 exp(-s), the paper's weights")
    rows = [
        [str(rank), *(f"{courses[str(rank)][at][1]:.2f}" for at in (0, -1))]
        for rank in reversed(RANKS)
    ]
    return (
        f"Weights exp(-s) of the paper's objective, means of an epoch, first seed.\n\n"
        f"{table(['rank', 'first epoch it is drawn in', 'last epoch'], rows)}\n"
        f"![weights]({NAME}-weights.svg)\n"
    )


def _told(found: Mapping[str, Any]) -> dict[str, Any]:
    """All numbers, the weights' courses of the paper's objective alone."""
    designs = {
        name: [{k: v for k, v in one.items() if k != "weights" or name == PAPER} for one in of]
        for name, of in found["designs"].items()
    }
    return {**found, "designs": designs}
