"""Frozen features: every family of map at every width, beside what was measured beforehand."""

from benchmarks.study.common import KINDS, extracted, points, swept, table, write
from benchmarks.study.figure import Line, chart
from distill.findings import Sweep, SweptMap

FACTORS = (2, 4, 8, 16, 32)
# test accuracy in %, measured beforehand with plain code: full width, then by factor and kind
BEFOREHAND: dict[str, dict[tuple[float, str], float]] = {
    "caltech101-mobilenetv2": {
        (1, "full"): 90.7,
        (4, "gaussian"): 88.6, (4, "orthogonal"): 89.3, (4, "pca"): 90.1,
        (16, "gaussian"): 81.3, (16, "orthogonal"): 81.5, (16, "pca"): 89.2,
        (16, "discriminant"): 90.4, (16, "head-svd"): 89.5,
        (32, "gaussian"): 71.7, (32, "orthogonal"): 72.0, (32, "pca"): 86.7,
        (32, "discriminant"): 87.6, (32, "head-svd"): 88.7,
    },
    "caltech101-deit": {
        (1, "full"): 90.2,
        (4, "gaussian"): 83.0, (4, "orthogonal"): 83.9, (4, "pca"): 88.7,
        (4, "discriminant"): 89.0, (4, "head-svd"): 89.0,
        (16, "gaussian"): 52.5, (16, "orthogonal"): 52.3, (16, "pca"): 74.3,
        (16, "discriminant"): 74.1, (16, "head-svd"): 78.2,
        (32, "gaussian"): 27.7, (32, "orthogonal"): 27.9, (32, "pca"): 53.3,
        (32, "discriminant"): 56.9, (32, "head-svd"): 54.7,
    },
    "clinc150-minilm": {
        (1, "full"): 94.0,
        (4, "gaussian"): 89.2, (4, "orthogonal"): 90.2, (4, "pca"): 92.4,
        (4, "discriminant"): 93.2, (4, "head-svd"): 92.3,
        (16, "gaussian"): 68.2, (16, "orthogonal"): 68.4, (16, "pca"): 87.9,
        (16, "discriminant"): 88.2, (16, "head-svd"): 89.9,
        (32, "gaussian"): 44.6, (32, "orthogonal"): 44.5, (32, "pca"): 79.6,
        (32, "discriminant"): 80.5, (32, "head-svd"): 81.4,
    },
}  # fmt: skip
WITHIN = 2.5  # points
RANDOM, MANY = ("gaussian", "orthogonal"), 40  # seeds, where five say something else


def told(found: SweptMap) -> str:
    """Test accuracy over the seeds."""
    tested = found.tested
    if tested is None:
        return "-"
    band = tested.accuracy
    half = (band.interval.high - band.interval.low) / 2 if band.interval else float("nan")
    return points(band.mean, half)


def agreement(name: str, sweep: Sweep) -> list[list[str]]:
    """Rows of what differs from the figures measured beforehand, in points."""
    maps = {(round(m.factor), m.kind): m for m in (sweep.full, *sweep.maps)}
    rows = []
    for (factor, kind), before in BEFOREHAND[name].items():
        found = maps.get((round(factor), kind))
        if found is not None and found.tested is not None:
            now = 100 * found.tested.accuracy.mean
            verdict = "yes" if abs(now - before) <= WITHIN else "NO"
            rows.append([name, kind, f"{factor:g}", f"{before:.1f}", f"{now:.1f}", verdict])
    return rows


def with_many_seeds(rows: list[list[str]]) -> list[list[str]]:
    """The random maps among the figures that differ, over ``MANY`` seeds."""
    found = []
    for name, kind, factor, before, now, verdict in rows:
        if verdict == "NO" and kind in RANDOM:
            run = extracted(name)
            sweep = swept(run, kinds=(kind,), factors=(float(factor),), seeds=MANY)
            swept(run, kinds=KINDS, factors=FACTORS)  # the run's sweep is again the whole one
            found.append([name, kind, factor, before, now, told(sweep.maps[0])])
    return found


def page(name: str, sweep: Sweep) -> str:
    """One case: a table of test accuracies and what is recommended."""
    widths = sorted({m.dim_out for m in sweep.maps}, reverse=True)
    maps = {(m.kind, m.dim_out): m for m in sweep.maps}
    kinds = [kind for kind in KINDS if any(m.kind == kind for m in sweep.maps)]
    rows = [
        [f"{k} ({sweep.dim / k:g}x)", f"{k / (sweep.classes - 1):.2f}"]
        + [told(maps[kind, k]) if (kind, k) in maps else "-" for kind in kinds]
        for k in widths
    ]
    best = sweep.best
    return (
        f"## {name}\n\nd = {sweep.dim}, C = {sweep.classes}; full head {told(sweep.full)} %. "
        f"{sweep.sentence}\n\n"
        f"Recommended by cross-validation at a tolerance of {100 * sweep.tolerance:g} points: "
        f"{best.kind}, k = {best.dim_out} ({best.verdict} by the test rows).\n\n"
        + table(["k", "k/(C-1)", *kinds], rows)
        + f"\n![{name}]({name}.svg)\n"
    )


def draw(name: str, sweep: Sweep) -> None:
    """Accuracy against k, a line a family."""
    lines = []
    for kind in KINDS:
        family = sorted((m for m in sweep.maps if m.kind == kind), key=lambda m: m.dim_out)
        tested = [(m.dim_out, 100 * m.tested.accuracy.mean) for m in family if m.tested]
        lines.append(Line(kind, tested))
    if sweep.full.tested is not None:
        full = 100 * sweep.full.tested.accuracy.mean
        widths = [m.dim_out for m in sweep.maps]
        lines.append(Line("full width", [(min(widths), full), (max(widths), full)]))
    chart(f"{name}.svg", lines, x="k", y="test accuracy, %", log=True, mark=sweep.classes - 1)


def main() -> None:
    """Extract, sweep, write."""
    parts, compared = [], []
    for name in BEFOREHAND:
        sweep = swept(extracted(name), kinds=KINDS, factors=FACTORS)
        draw(name, sweep)
        parts.append(page(name, sweep))
        compared += agreement(name, sweep)
    apart = sum(row[-1] == "NO" for row in compared)
    header = ["case", "map", "factor", "beforehand", "now", f"within {WITHIN} points"]
    parts.append(
        f"## Beside what was measured beforehand\n\n{len(compared)} figures, {apart} of them "
        f"further apart than {WITHIN} points.\n\n" + table(header, compared)
    )
    if more := with_many_seeds(compared):
        header = ["case", "map", "factor", "beforehand", "five seeds", f"{MANY} seeds"]
        parts.append(f"## With {MANY} seeds\n\n" + table(header, more))
    write("frozen", "Frozen features: how far, and by which map", *parts)
    print(f"{apart} of {len(compared)} figures are further than {WITHIN} points apart")


if __name__ == "__main__":
    main()
