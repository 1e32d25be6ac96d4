"""The page of the nested language model: KL and perplexity against budget, beside what is cut."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.study.common import RESULTS, mean_and_half, table, write
from benchmarks.study.figure import Line, chart
from benchmarks.study.nested_lesson import BATCH, TRAINED
from benchmarks.study.nested_llama import TOKENS, Worth

NAME = "nested-stories260k"


def page(found: Mapping[str, Any], *, rows: int) -> None:
    """Write the page, its data and its drawing."""
    taught = [one["test"] for one in found["taught"]]
    untaught: Mapping[str, Worth] = found["untaught"]
    lines = {"nested": _means(taught, "kl")} | {n: _one(of, "kl") for n, of in untaught.items()}
    chart(
        f"{NAME}.svg",
        [Line(n, [(100 * b, math.log10(v)) for b, v in of if b < 1]) for n, of in lines.items()],
        x="budget, % of dense FLOPs",
        y="log10 KL to the dense network",
    )
    write(
        NAME,
        "A nested language model of 260,000 numbers, at any budget",
        _setting(found, rows),
        "## KL to the dense network\n\n" + _table(found, "kl", "{:.3f}"),
        f"![KL]({NAME}.svg)\n",
        "## Perplexity\n\n" + _table(found, "perplexity", "{:.2f}"),
        "## Trials\n\n" + _trials(found["trials"]),
        "## Bars\n\n" + "\n".join(f"- {line}" for line in _bars(found)),
        command="nested_stories",
    )
    text = json.dumps({**found, "taught": [_without_texts(one) for one in found["taught"]]},
                      indent=1, sort_keys=True)  # fmt: skip
    (RESULTS / f"{NAME}.json").write_text(text + "\n")


# --- arithmetic -----------------------------------------------------------------------------------


def rival(untaught: Mapping[str, Worth], budget: str) -> tuple[str, float]:
    """The rival of the least KL at a budget, and that KL."""
    name = min(untaught, key=lambda name: untaught[name][budget]["kl"])
    return name, untaught[name][budget]["kl"]


def won(taught: Sequence[Worth], untaught: Mapping[str, Worth], budget: str) -> bool:
    """Whether every seed has less KL than every rival."""
    return max(one[budget]["kl"] for one in taught) < rival(untaught, budget)[1]


def _means(taught: Sequence[Worth], what: str) -> list[tuple[float, float]]:
    return [(float(b), mean_and_half([one[b][what] for one in taught])[0]) for b in taught[0]]


def _one(found: Worth, what: str) -> list[tuple[float, float]]:
    return [(float(budget), of[what]) for budget, of in found.items()]


def _without_texts(taught: Mapping[str, Any]) -> dict[str, Any]:
    spoken = taught["generation"].items()
    return {
        **taught,
        "generation": {b: {k: v for k, v in one.items() if k != "ids"} for b, one in spoken},
    }


# --- parts ----------------------------------------------------------------------------------------


def _setting(found: Mapping[str, Any], rows: int) -> str:
    lesson, seconds = found["lesson"], [one["seconds"] for one in found["taught"]]
    return (
        f"The samples were drawn from the dense network itself, at temperature 1: it is the best "
        f"there can be on them by construction, and the KL to it is what a budget loses. MLP "
        f"blocks and attention are nested from the whitened start; the head is tied to the "
        f"embedding and stays. Budgets are shares of the dense FLOPs of the whole network at "
        f"{TOKENS} tokens, attention and head included, and {100 * found['floor']:.0f} % is what "
        f"rank 1 everywhere leaves. Along a path of ranks for each layer, {lesson['batches']} "
        f"steps of {BATCH} samples learn from the dense network's outputs alone "
        f"({lesson['weighing']} weighing, {lesson['sampling']}, anchor at {lesson['anchor']:g}, "
        f"learning rate {lesson['learning_rate']:g}), at the budgets marked *; the others are "
        f"never trained. Mean and 95 % interval over "
        f"{len(seconds)} seeds, {rows} held-out samples; {max(seconds):.0f} s a training at most, "
        f"one thread beside other work. Rivals are not taught: SVD and whitened SVD, each along a "
        f"path found for it in the same way, and at one rank for all layers.\n"
    )


def _trials(trials: Sequence[Mapping[str, Any]]) -> str:
    shown = ("0.97", "0.9", "0.7", "0.5")
    rows = [
        [
            t["weighing"], f"{t['learning_rate']:g}", f"{t['anchor']:g}",
            f"{math.exp(t['worst log ratio']):.2f}", f"{math.exp(t['mean log KL']):.2f}",
            *(f"{t['validation'][budget]['kl']:.3f}" for budget in shown),
        ]
        for t in trials
    ]  # fmt: skip
    header = [
        "weighing", "learning rate", "anchor", "KL over the best rival's, worst budget",
        "geometric mean of KL", *(f"KL at {budget}" for budget in shown),
    ]  # fmt: skip
    told = (
        f"Seed 0, {trials[0]['batches']} steps, validation samples; the least of the fourth column "
        f"is taken, as every budget is to be better than the rivals. What is best at high budgets "
        f"is not at low ones.\n\n"
    )
    return told + table(header, rows)


def _table(found: Mapping[str, Any], what: str, form: str) -> str:
    untaught: Mapping[str, Worth] = found["untaught"]
    trained, rows = {found["lesson"]["anchor"], *TRAINED}, []
    for budget, cost in found["costs"].items():
        mean, half = mean_and_half([one["test"][budget][what] for one in found["taught"]])
        told = form.format(mean) + (f" ± {form.format(half)}" if half == half else "")
        rows.append([
            budget + ("*" if float(budget) in trained else ""),
            f"{100 * cost['share']:.1f}", f"{100 * cost['of nested layers']:.1f}", told,
            *(form.format(of[budget][what]) for of in untaught.values()),
        ])  # fmt: skip
    header = ["budget", "FLOPs, %", "of the nested layers, %", "nested, taught", *untaught]
    return table(header, rows)


def _bars(found: Mapping[str, Any]) -> Iterator[str]:
    taught = [one["test"] for one in found["taught"]]
    untaught, below = found["untaught"], [b for b in taught[0] if float(b) < 1]
    lost = [b for b in below if not won(taught, untaught, b)]
    yield (
        f"Every seed has less KL than the best rival at {len(below) - len(lost)} of {len(below)} "
        f"budgets below 1 ({'met' if not lost else 'not met at ' + ', '.join(lost)})."
    )
    mean, _ = mean_and_half([one["1"]["kl"] for one in taught])
    yield (
        f"At budget 1 the rivals are the dense network, whose KL is 0; the taught network's is "
        f"{mean:.4f}: nothing can be better there."
    )
    spoken = [one for of in found["taught"] for one in of["generation"].values()]
    worst = max(one["worst"] for one in spoken)
    yield (
        f"Generation: {len(spoken)} of {len(spoken)} texts of {spoken[0]['new']} new tokens, with "
        f"a cache, at every budget and seed; each token is the choice of a pass without a cache, "
        f"to {worst:.1g} in the logit."
    )
