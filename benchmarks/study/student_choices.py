"""What each choice of `distill train-student` is worth: one changed at a time, on validation rows.

``python -m benchmarks.study.student_choices``: static students of the fine-tuned MiniLM on CLINC150
at 16x, a seed of all choices after another. Whatever ends it, it goes on, and the page has what is
finished. ``train-student`` answers test rows too; what it says of them is not looked at, but for
prefixes, which are scored on nothing else.
"""

import argparse
import json
import tomllib
from pathlib import Path
from typing import Any

import distill
from benchmarks.study.common import CASES as TEACHERS
from benchmarks.study.common import (
    ROOT,
    RUNS,
    extracted,
    mean_and_half,
    options,
    points,
    table,
    write,
)
from distill.bars import Bars
from distill.config import Config, write_config

NAME = "clinc150"
KINDS = ("gaussian", "pca", "discriminant", "fisher", "head-svd")
# over the [student] of the config, whose head is tuned by squares, KL and labels
SUBSPACE: dict[str, Any] = {"way": "subspace"}
SKETCH: dict[str, Any] = {"way": "sketch", "temperature": 4.0}
ALONE: dict[str, Any] = {"kl_weight": 0.0, "ce_weight": 0.0, "head": "carried"}
PREFIXES = (12, 6)
UNDONE = "undone in its head"  # of a note; validation accuracy is that of before
CHOICES: dict[str, dict[str, dict[str, Any]]] = {
    "Answers in the 24 numbers": {
        "squares, KL and labels, head tuned": SUBSPACE,
        "squares alone, head carried (eq. 4)": SUBSPACE | ALONE,
        "squares alone, head carried, attenuation undone": SUBSPACE | ALONE | {"calibrate": True},
        "squares and KL, head carried": SUBSPACE | ALONE | {"kl_weight": 1.0},
        "head fresh": SUBSPACE | {"head": "fresh"},
        "attenuation undone": SUBSPACE | {"calibrate": True},
        "loss: fisher": SUBSPACE | {"loss": "fisher"},
        "loss: normalised-mse": SUBSPACE | {"loss": "normalised-mse"},
        "loss: cosine": SUBSPACE | {"loss": "cosine"},
        "loss: relational": SUBSPACE | {"loss": "relational"},
        "loss: logsum": SUBSPACE | {"loss": "logsum"},
        "targets: standardised": SUBSPACE | {"targets": "standardised"},
        "targets: whitened": SUBSPACE | {"targets": "whitened"},
        "targets averaged over an example's views": SUBSPACE | {"average_views": True},
        "targets drawn a tenth to their class mean": SUBSPACE | {"shrink": 0.1},
        "targets drawn a half to their class mean": SUBSPACE | {"shrink": 0.5},
        "projector of 256 while it learns, head fresh": SUBSPACE
        | {"projector": 256, "head": "fresh"},
        "prefixes 12 and 6 beside": SUBSPACE | {"prefixes": PREFIXES},
        "map: fisher": SUBSPACE | {"kind": "fisher"},
        "map: PCA": SUBSPACE | {"kind": "pca"},
        "map: discriminant": SUBSPACE | {"kind": "discriminant"},
        "map: Gaussian": SUBSPACE | {"kind": "gaussian"},
    },
    "Keeps its own width (sketch)": {
        "squares, KL and labels": SKETCH,
        "map: fisher, sketch": SKETCH | {"kind": "fisher"},
        "map: PCA, sketch": SKETCH | {"kind": "pca"},
        "map: discriminant, sketch": SKETCH | {"kind": "discriminant"},
        "map: Gaussian, sketch": SKETCH | {"kind": "gaussian"},
        "without labels": SKETCH | {"ce_weight": 0.0},
        "without KL": SKETCH | {"kl_weight": 0.0},
        "without squares": SKETCH | {"target_weight": 0.0},
    },
}


def main() -> None:
    """Extract once, teach every choice with every seed, and write the page after each seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    run = prepared()
    known = run / "choices.json"
    found: dict[str, Any] = json.loads(known.read_text()) if known.is_file() else {}
    plain = (run / "prepared.toml").read_text()
    for seed in range(asked.seeds):
        for choices in CHOICES.values():
            for name, told in choices.items():
                key = f"{name}|{seed}"
                if key not in found:
                    found[key] = taught(run, plain, {**told, "seed": seed})
                    known.write_text(json.dumps(found, indent=1))
                    print(f"{key}: {found[key]}", flush=True)
        page(found, seed + 1)


def prepared() -> Path:
    """The run: features of views, every map at 16x, heads of all."""
    teacher, run = extracted("clinc150-minilm", epochs=3), RUNS / "students" / f"{NAME}-choices"
    bars = Bars(verbose=False, quiet=False)
    told: Any = {**options(TEACHERS["clinc150-minilm"]), "weights": str(teacher / "teacher")}
    distill.extract(run, config=ROOT / "configs" / f"students-{NAME}.toml", progress=bars, **told)
    distill.train_head(run, progress=bars)
    for kind in KINDS:
        distill.project(run, kind=kind, progress=bars)
    distill.train_head(run, progress=bars)
    (run / "prepared.toml").write_bytes((run / "config.toml").read_bytes())
    return run


def taught(run: Path, plain: str, told: dict[str, Any]) -> dict[str, Any]:
    """Validation accuracy of one student, what was undone, what its prefixes have on test."""
    config = tomllib.loads(plain)
    kind = told.pop("kind", "head-svd")
    config["student"] |= told
    config["project"]["kind"] = kind
    write_config(Config.model_validate(config), run / "config.toml")
    (one,) = distill.train_student(
        run, overwrite=True, progress=Bars(verbose=False, quiet=True)
    ).students
    return {
        "accuracy": one.validation_accuracy,
        "best_epoch": one.best_epoch,
        "attenuation": [note for note in one.notes if UNDONE in note],
        "prefixes": {str(prefix.dim_out): prefix.test.accuracy for prefix in one.prefixes},
    }


def page(found: dict[str, Any], seeds: int) -> None:
    """A table for each way, its first row what the others change."""
    told = (
        f"Validation accuracy in per cent over {seeds} seeds, with 95 % intervals where there are "
        "several, and the mean difference to the first row of a table, seed by seed. Static "
        "students of 256 numbers a token, 5,000 queries, eight views, twelve epochs, head-svd at "
        "16x (24 numbers) unless a row says another map; untuned, all at the learning rate of the "
        "config.\n"
    )
    parts = [told]
    for way, choices in CHOICES.items():
        first = accuracies(found, next(iter(choices)), seeds)
        rows = []
        for name, told_of in choices.items():
            if told_of.get("calibrate"):
                continue
            own = accuracies(found, name, seeds)
            apart = mean_and_half([a - b for a, b in zip(own, first, strict=True)])
            rows.append(
                [
                    name,
                    points(*mean_and_half(own)),
                    f"{100 * apart[0]:+.1f}"
                    + ("" if apart[1] != apart[1] else f" ± {100 * apart[1]:.1f}"),
                ]
            )
        parts += [f"## {way}\n", table(["changed", "validation", "against the first"], rows)]
    parts += [
        f"{name.capitalize()}: {'; '.join(notes)}.\n"
        for choices in CHOICES.values()
        for name, told_of in choices.items()
        if told_of.get("calibrate")
        and (notes := [n for seed in range(seeds) for n in found[f"{name}|{seed}"]["attenuation"]])
    ]
    prefixed = [found[f"prefixes 12 and 6 beside|{seed}"]["prefixes"] for seed in range(seeds)]
    narrow = ", ".join(
        f"{points(*mean_and_half([each[str(width)] for each in prefixed]))} % by the first {width}"
        for width in PREFIXES
    )
    parts.append(f"The student of prefixes has on test rows {narrow} of its numbers.\n")
    write(
        "student-choices",
        "What each choice of training a student is worth",
        *parts,
        command=f"student_choices --seeds {seeds}",
    )


def accuracies(found: dict[str, Any], name: str, seeds: int) -> list[float]:
    """Of one choice, seed by seed."""
    return [found[f"{name}|{seed}"]["accuracy"] for seed in range(seeds)]


if __name__ == "__main__":
    main()
