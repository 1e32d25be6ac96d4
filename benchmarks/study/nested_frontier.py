"""Frontiers of fine-tuned teachers: what a share of their FLOPs costs in accuracy.

``python -m benchmarks.study.nested_frontier NAME``; ``--seeds`` and ``--rivals`` choose how much of
it. Whatever ends it, it goes on.
"""

import argparse
import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

import distill
from benchmarks.study.common import RESULTS, ROOT, RUNS, extracted, machine
from distill.bars import Bars
from distill.config import FrontierConfig
from distill.options import FrontierOptions


@dataclass(frozen=True)
class Setting:
    """A teacher of the study, fine-tuned for so many epochs."""

    teacher: str  # in CASES
    epochs: int


SETTINGS = {
    "clinc150-minilm": Setting("clinc150-minilm", 3),
    "clinc150-minilm-gauges": Setting("clinc150-minilm", 3),
    "clinc150-minilm-own": Setting("clinc150-minilm", 3),
    "caltech101-deit-128": Setting("caltech101-deit-128", 8),
    "caltech101-deit-128-views": Setting("caltech101-deit-128", 8),
    "caltech101-deit-128-gauges": Setting("caltech101-deit-128", 8),
    "caltech101-deit-128-hints": Setting("caltech101-deit-128", 8),
    "caltech101-deit-128-few": Setting("caltech101-deit-128", 8),
    "caltech101-deit-128-long": Setting("caltech101-deit-128", 8),
    "caltech101-deit-128-patient": Setting("caltech101-deit-128", 8),
}


def main() -> None:
    """Teach, nest, compare; the page is the command's own Markdown report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=SETTINGS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rival-seeds", type=int, default=1)
    parser.add_argument("--rivals", default="svd,whitened,one-rank,width,half,longer")
    parser.add_argument("--nest-only", action="store_true", help="read no test row")
    parser.add_argument("--workers", type=int, default=0, help="processes that make the views")
    parser.add_argument("--untimed", action="store_true", help="answers alone; time them later")
    parser.add_argument("--taught-on", default="", help="where, if its run came from elsewhere")
    asked = parser.parse_args()
    bars = Bars(verbose=False, quiet=False)
    run = prepared(asked.name, into=asked.name, workers=asked.workers)
    config = ROOT / "configs" / f"nested-{asked.name}.toml"
    found = distill.nest(run, config=config, progress=bars, workers=asked.workers)
    for point in found.points:
        print(f"{point.share:.3f}: {point.untaught:.4f} -> {point.accuracy:.4f} on validation")
    if asked.nest_only:
        return
    told: FrontierOptions = {
        "seeds": asked.seeds,
        "rival_seeds": asked.rival_seeds,
        "rivals": asked.rivals,
        "workers": asked.workers,
        # said in any case: the run keeps what it was told last
        "repeats": 0 if asked.untimed else FrontierConfig().repeats,
    }
    distill.frontier(run, config=config, progress=bars, **told)
    if asked.untimed:
        return
    # the teacher may lie in an environment: no path of this machine in what is committed
    page = re.sub(r"hf/\S*/(?=\.venv/)", "hf/", (run / "frontier.md").read_text())
    page = page.replace(f"{ROOT}/", "")
    taught = f"taught on {asked.taught_on} (`--nest-only`, then `--untimed`), timed on "
    where = f"{taught if asked.taught_on else ''}{machine()}"
    command = f"`python -m benchmarks.study.nested_frontier {asked.name} --seeds {asked.seeds}"
    (RESULTS / f"nested-{asked.name}.md").write_text(
        f"{page.rstrip()}\n\n{command} --rival-seeds {asked.rival_seeds} --rivals "
        f"{shlex.quote(asked.rivals)}`, {where}.\n"
    )


def prepared(name: str, *, into: str, workers: int = 0) -> Path:
    """A run of the fine-tuned teacher of a setting, beside the one whose features others read."""
    taught, run = teacher_of(name, workers=workers), RUNS / "nested" / into
    if not run.exists():
        run.mkdir(parents=True)
        shutil.copy(taught / "config.toml", run / "config.toml")
        shutil.copytree(taught / "teacher", run / "teacher")
    return run


def teacher_of(name: str, *, workers: int = 0) -> Path:
    """The run whose teacher is fine-tuned, which is told nothing of nesting."""
    setting = SETTINGS[name]
    return extracted(setting.teacher, epochs=setting.epochs, workers=workers)


if __name__ == "__main__":
    main()
