"""Fine-tuning collapses the features: how the curves of random maps follow, epoch by epoch."""

from benchmarks.study.common import extracted, swept, table, write
from benchmarks.study.figure import Line, chart
from benchmarks.study.frozen import told
from distill.findings import Sweep

CASES = {"clinc150-minilm": (4, 16, 32), "sst2-minilm": (16, 64, 128, 384)}
EPOCHS = (0, 1, 2, 3)
KINDS = ("gaussian", "pca", "head-svd")


def collapse(sweep: Sweep) -> float:
    """NC1 on held-out rows: within-class scatter in units of between-class scatter."""
    found = sweep.diagnostics.figures.get("nc1") if sweep.diagnostics else None
    return float("nan") if found is None else found


def rows_of(epochs: int, sweep: Sweep) -> list[list[str]]:
    """A row for every map: what was kept at this much fine-tuning."""
    before = [str(epochs), f"{collapse(sweep):.3g}"]
    return [
        [*before, found.kind, str(found.dim_out), told(found)]
        for found in (sweep.full, *sweep.maps)
    ]


def lines_of(sweeps: dict[int, Sweep]) -> list[Line]:
    """Points lost against the full head, by NC1, one line a map."""
    lines = []
    for first in sweeps[0].maps:
        places = []
        for sweep in sweeps.values():
            match = [m for m in sweep.maps if (m.kind, m.dim_out) == (first.kind, first.dim_out)]
            if match and match[0].tested and sweep.full.tested:
                lost = sweep.full.tested.accuracy.mean - match[0].tested.accuracy.mean
                places.append((collapse(sweep), 100 * lost))
        lines.append(Line(f"{first.kind}, k = {first.dim_out}", places))
    return lines


def main() -> None:
    """Fine-tune for 0 to 3 epochs, extract, sweep, write."""
    parts = []
    for name, factors in CASES.items():
        sweeps = {
            epochs: swept(extracted(name, epochs=epochs), kinds=KINDS, factors=factors)
            for epochs in EPOCHS
        }
        chart(f"tuned-{name}.svg", lines_of(sweeps), x="NC1 on validation rows",
              y="points lost against the full head", log=True)  # fmt: skip
        rows = [row for epochs, sweep in sweeps.items() for row in rows_of(epochs, sweep)]
        header = ["epochs", "NC1", "map", "k", "test accuracy, %"]
        parts.append(f"## {name}\n\n" + table(header, rows) + f"\n![{name}](tuned-{name}.svg)\n")
    write("tuned", "Fine-tuned teachers: the curves follow the collapse", *parts)


if __name__ == "__main__":
    main()
