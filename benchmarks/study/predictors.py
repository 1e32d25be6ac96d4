"""What explains the loss: each figure's prediction of what a data set left out of the fit keeps."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sklearn.isotonic import IsotonicRegression

from benchmarks.study.common import RUNS, table, write
from distill.findings import Sweep, SweptMap

Predictor = Callable[[Sweep, SweptMap], float]


def _figure(name: str) -> Callable[[Sweep], float]:
    def value(sweep: Sweep) -> float:
        found = sweep.diagnostics.figures.get(name) if sweep.diagnostics else None
        return float("nan") if found is None else found

    return value


def _band(name: str) -> Predictor:
    def value(sweep: Sweep, found: SweptMap) -> float:
        del sweep
        band = getattr(found, name)
        return float("nan") if band is None else float(band.mean)

    return value


PREDICTORS: dict[str, Predictor] = {
    "k/(C-1)": lambda sweep, found: found.dim_out / (sweep.classes - 1),
    "k/effective rank": lambda sweep, found: found.dim_out / _figure("effective_rank")(sweep),
    "k/participation ratio": lambda sweep, found: (
        found.dim_out / _figure("participation_ratio")(sweep)
    ),
    "NC1": lambda sweep, _: _figure("nc1")(sweep),
    "margin kept": _band("margin_kept"),
    "recall@10": _band("recall"),
    "retained separation": _band("separation"),
}


@dataclass(frozen=True)
class Point:
    """One map of one sweep: whose data, what kind, what it kept of the full accuracy."""

    data: str
    kind: str
    kept: float
    figures: dict[str, float]


def points_of(name: str, sweep: Sweep) -> list[Point]:
    """Of every map with a test figure."""
    full = sweep.full.tested
    return [
        Point(
            data=name.split("-")[0],
            kind=found.kind,
            kept=found.tested.accuracy.mean / full.accuracy.mean,
            figures={key: value(sweep, found) for key, value in PREDICTORS.items()},
        )
        for found in sweep.maps
        if found.tested and full and found.dim_out < sweep.dim
    ]


def left_out_error(points: list[Point], predictor: str) -> dict[str, float]:
    """Root-mean-square error, in points, on each data set of a monotone fit to all others."""
    found = {}
    for data in sorted({point.data for point in points}):
        here, there = (
            [
                (point.figures[predictor], point.kept)
                for point in points
                if (point.data == data) is own and np.isfinite(point.figures[predictor])
            ]
            for own in (True, False)
        )
        if not here or not there:
            found[data] = float("nan")
            continue
        # more collapsed features lose less; of all else, more is better
        fit = IsotonicRegression(increasing=predictor != "NC1", out_of_bounds="clip")
        fit.fit(*map(np.array, zip(*there, strict=True)))
        x, kept = map(np.array, zip(*here, strict=True))
        found[data] = float(100 * np.sqrt(np.mean((fit.predict(x) - kept) ** 2)))
    return found


def constant_error(points: list[Point]) -> dict[str, float]:
    """The same of the mean of all others: what knowing nothing gives."""
    found = {}
    for data in sorted({point.data for point in points}):
        mean = np.mean([point.kept for point in points if point.data != data])
        kept = np.array([point.kept for point in points if point.data == data])
        found[data] = float(100 * np.sqrt(np.mean((kept - mean) ** 2)))
    return found


def page(title: str, points: list[Point]) -> str:
    """A row for each predictor, the best first."""
    errors = {name: left_out_error(points, name) for name in PREDICTORS}
    errors["nothing (the others' mean)"] = constant_error(points)
    sets = sorted({point.data for point in points})
    overall = {name: float(np.nanmean(list(by.values()))) for name, by in errors.items()}
    rows = [
        [name, *(f"{errors[name][data]:.1f}" for data in sets), f"{overall[name]:.1f}"]
        for name in sorted(errors, key=lambda name: overall[name])
    ]
    header = ["predictor", *(f"{data} left out" for data in sets), "mean"]
    ranked = sorted(PREDICTORS, key=lambda name: overall[name])
    told = " and ".join(f"{name} ({overall[name]:.1f})" for name in ranked[:2])
    nothing = overall["nothing (the others' mean)"]
    worse = [name for name in ranked if overall[name] > nothing]
    return (
        f"## {title}\n\n{len(points)} maps. Nearest come {told} points, against {nothing:.1f} of "
        f"knowing nothing; worse than nothing: {', '.join(worse) or 'none'}.\n\n"
        + table(header, rows)
    )


def main() -> None:
    """Read every sweep there is, fit, write."""
    points: list[Point] = []
    for file in sorted(RUNS.glob("*/sweep.json")):
        points += points_of(file.parent.name, Sweep.load(file))
    random = [point for point in points if point.kind in ("gaussian", "orthogonal")]
    write(
        "predictors",
        "What explains the loss",
        "Share of the full head's test accuracy that a map keeps, predicted by a monotone fit "
        "(isotonic) to the maps of all other data sets; root-mean-square error in points on the "
        "data set left out. Teachers of one data set are left out together. Sweeps: "
        + ", ".join(file.parent.name for file in sorted(RUNS.glob("*/sweep.json")))
        + ".\n",
        page("All maps", points),
        page("Data-independent maps alone", random),
    )


if __name__ == "__main__":
    main()
