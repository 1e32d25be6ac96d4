"""A causal language model of 260,000 numbers at any budget, beside what is only cut.

``python -m benchmarks.study.nested_stories``. MLP blocks and attention of stories260k nested, a
path of ranks for each layer, a short training by the dense network's outputs. KL to it and
perplexity on held-out samples, against truncated and whitened SVD along paths of their own and at
one rank for all layers. Weighing and learning rate are chosen on validation with seed 0. Whatever
ends it, it goes on.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from safetensors.torch import load_model, save_model

from benchmarks.study.common import RUNS
from benchmarks.study.nested_kept import kept
from benchmarks.study.nested_lesson import Lesson, generated, teach
from benchmarks.study.nested_llama import (
    Samples,
    Speaker,
    Start,
    Worth,
    at_budgets,
    damages_of,
    mean_log_kl,
    nested_copy,
    samples,
    started,
    within,
    worst_log_ratio,
    worth,
)
from benchmarks.study.nested_stories_page import page
from students.nested import NestedPath

FOLDER = RUNS / "nested-stories"
SEEDS = (1, 2, 3)
INITS = ("svd", "whitened")
TRIALS = tuple(
    Lesson(weighing=weighing, learning_rate=rate, anchor=anchor, batches=50)
    for weighing, rate, anchor in (
        ("log-sum", 3e-4, 1.0), ("log-sum", 1e-3, 1.0), ("log-sum", 4e-3, 1.0),
        ("equal", 1e-3, 1.0),
        ("log-sum", 3e-4, 0.97), ("log-sum", 1e-3, 0.97), ("log-sum", 2e-3, 0.97),
    )
)  # fmt: skip
BATCHES = 240
TRIED = 32  # validation samples that trials are judged by
TEST = 32  # of the 400 held-out samples, the first ones
NEW = 48  # tokens


def main() -> None:
    """Starts, trials, three seeds, test, page."""
    starts = {init: start_of(init) for init in INITS}
    paths = {
        f"{init}, {way}": (start, path)
        for init, start in starts.items()
        for way, path in (("a rank each", start.path), ("one rank", start.uniform))
    }
    rivals = cut(paths, "validation", samples("validation")[:TRIED])
    tried = trials(list(rivals.values()))
    lesson, rows = chosen(tried), samples("test")[:TEST]
    found: dict[str, Any] = {"lesson": asdict(lesson), "trials": tried, "taught": [], "costs": {}}
    found["untaught"] = cut(paths, "test", rows)
    for seed in SEEDS:
        found["taught"].append(kept(FOLDER / f"test-s{seed}.json", lambda: _taught(seed, lesson)))  # noqa: B023
        print(f"seed {seed}: done", flush=True)
    start = starts["whitened"]
    for name, setting in at_budgets(start.path).items():
        found["costs"][name] = {
            "share": start.costs.share(setting), "of nested layers": within(start.costs, setting)
        }  # fmt: skip
    page({**found, "floor": start.path.floor}, rows=len(rows))


def start_of(init: str) -> Start:
    """The untaught copy; its damages are measured once."""
    told = kept(
        FOLDER / f"damages-{init}.json",
        lambda: {
            name: {str(rank): damage for rank, damage in of.items()}
            for name, of in damages_of(nested_copy(init)).items()
        },
    )
    return started(init, {n: {int(r): d for r, d in of.items()} for n, of in told.items()})


def cut(
    paths: Mapping[str, tuple[Start, NestedPath]], split: str, rows: Samples
) -> dict[str, Worth]:
    """What the untaught copies are worth along each path."""
    return {
        name: kept(
            FOLDER / f"{split}-{'-'.join(name.replace(',', '').split())}.json",
            lambda: worth(start.network, at_budgets(path), rows),  # noqa: B023
        )
        for name, (start, path) in paths.items()
    }


def trials(rivals: Collection[Worth]) -> list[dict[str, Any]]:
    """What each trial gives on validation."""
    found = []
    for lesson in TRIALS:
        name = f"{lesson.weighing}-{lesson.learning_rate:g}-{lesson.anchor:g}"
        one = kept(FOLDER / f"trial-{name}.json", lambda: _trial(name, lesson))  # noqa: B023
        found.append({**one, "worst log ratio": worst_log_ratio(one["validation"], rivals)})
    return found


def _trial(name: str, lesson: Lesson) -> dict[str, Any]:
    start = start_of("whitened")
    teach(start, lesson, seed=0, folder=FOLDER / "training" / name)
    told = worth(start.network, at_budgets(start.path), samples("validation")[:TRIED])
    return {**asdict(lesson), "mean log KL": mean_log_kl(told), "validation": told}


def chosen(tried: Sequence[Mapping[str, Any]]) -> Lesson:
    """The settings whose worst budget is the best beside the rivals, for all batches."""
    best = min(tried, key=lambda trial: float(trial["worst log ratio"]))
    told = {name: best[name] for name in ("weighing", "learning_rate", "anchor")}
    return Lesson(**told, batches=BATCHES)


def taught_network(seed: int, lesson: Lesson) -> tuple[Start, float]:
    """The start with the weights of a seed; taught where they are not there yet."""
    start, path = start_of("whitened"), FOLDER / f"taught-s{seed}.safetensors"
    seconds = kept(path.with_suffix(".json"), lambda: {"seconds": _teach(start, lesson, seed)})[
        "seconds"
    ]
    _load(start.network, seed)
    return start, float(seconds)


def _teach(start: Start, lesson: Lesson, seed: int) -> float:
    seconds = teach(start, lesson, seed=seed, folder=FOLDER / "training" / f"s{seed}")
    save_model(start.network, str(FOLDER / f"taught-s{seed}.safetensors"))
    return seconds


def _load(network: Speaker, seed: int) -> None:
    load_model(network, str(FOLDER / f"taught-s{seed}.safetensors"))


def _taught(seed: int, lesson: Lesson) -> dict[str, Any]:
    start, seconds = taught_network(seed, lesson)
    settings = at_budgets(start.path)
    told = worth(start.network, settings, samples("test")[:TEST])
    speech = {name: generated(start.network, s, tokens=NEW) for name, s in settings.items()}
    for name, one in speech.items():
        if not (one["finite"] and one["new"] == NEW and one["worst"] <= 1e-3):
            raise AssertionError(f"seed {seed}, budget {name}: generation went wrong: {one}")
    return {"test": told, "generation": speech, "seconds": seconds}


if __name__ == "__main__":
    main()
