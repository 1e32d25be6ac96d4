"""A small frontier: a nested network of three budgets, and rivals of each kind."""

from typing import Any
from xml.etree import ElementTree

from distill.findings import (
    Band,
    Certificate,
    Difference,
    Falls,
    Frontier,
    FrontierCurve,
    FrontierPoint,
    Interval,
    Latency,
    Picked,
)

TIMES = {1: 0.004, 32: 0.08}
SVG = "{http://www.w3.org/2000/svg}"


def circles(drawing: str) -> list[tuple[str, float, float]]:
    """Classes and places of the points of a drawing."""
    return [
        (c.get("class", ""), float(c.get("cx", "0")), float(c.get("cy", "0")))
        for c in ElementTree.fromstring(drawing).iter(f"{SVG}circle")
        if float(c.get("cy", "0")) > 60  # not the legend's
    ]


def around(value: float, half: float = 0.01) -> Interval:
    return Interval(low=value - half, high=value + half)


def point(share: float, accuracy: float, *, timed: bool = True, **changes: Any) -> FrontierPoint:
    latencies = tuple(
        Latency(batch=batch, seconds=seconds * share, device="cpu")
        for batch, seconds in TIMES.items()
    )
    made: dict[str, Any] = {
        "budget": share,
        "share": share,
        "parameters": round(1e6 * share),
        "trained": True,
        "accuracy": Band(mean=accuracy, interval=around(accuracy)),
        "interval": around(accuracy, 0.03),
        "difference": Difference(
            against="dense", value=accuracy - 0.9, interval=around(accuracy - 0.9)
        ),
        "behind": None,
        "validation_accuracy": accuracy,
        "latencies": latencies if timed else (),
    }
    return FrontierPoint(**(made | changes))


def certificate(loss: float, verdict: str, **changes: Any) -> Certificate:
    made: dict[str, Any] = {
        "verdict": verdict, "tolerance": 0.01, "loss": loss, "low": loss - 0.004,
        "high": loss + 0.004, "discordant": 0.02, "rows": 500, "seeds": 3, "rows_needed": None,
    }  # fmt: skip
    return Certificate(**(made | changes))


def curve(name: str, *points: FrontierPoint, **changes: Any) -> FrontierCurve:
    made: dict[str, Any] = {
        "name": name, "about": f"what {name} is", "seeds": 3, "trainings": 3, "updates": 120,
        "points": points, "area": Band(mean=0.88, interval=around(0.88)), "behind": None,
        "falls": Falls(count=0, of=len(points) - 1, largest=0.0, share=1.0),
    }  # fmt: skip
    return FrontierCurve(**(made | changes))


def frontier(**changes: Any) -> Frontier:
    nested = curve("nested", point(0.3, 0.85), point(0.5, 0.89, trained=False), point(1.0, 0.901))
    truncated = curve(
        "truncated SVD", *(point(s, a, timed=False, trained=False) for s, a in
                           ((0.3, 0.1), (0.5, 0.4), (1.0, 0.9))),
        seeds=1, trainings=0, updates=0, area=Band(mean=0.5, interval=None),
        behind=Difference(against="nested", value=-0.38, interval=around(-0.38)),
        falls=Falls(count=1, of=2, largest=0.004, share=0.5),
    )  # fmt: skip
    half = curve(
        "half of the layers",
        point(0.52, 0.87, behind=Difference(against="nested", value=-0.02, interval=around(-0.02))),
        seeds=1,
        trainings=1,
        area=None,
        falls=None,
    )
    made: dict[str, Any] = {
        "nested": "default", "teacher": "hf/minilm", "measured_at": "24 tokens",
        "dense_flops": 510_000_000, "classes": 150,
        "rows": {"train": 5000, "validation": 500, "test": 500}, "floor": 0.3, "device": "cpu",
        "threads": 1, "dense": point(1.0, 0.9), "curves": (nested, truncated, half),
        "picked": Picked(
            tolerance=0.01, budget=0.5, share=0.5, validation=certificate(0.004, "within"),
            test=certificate(0.01, "undecided", rows_needed=4000), estimated=0.5,
        ),
        "seconds": 812.0, "notes": ("a <note> & more",),
    }  # fmt: skip
    return Frontier(**(made | changes))
