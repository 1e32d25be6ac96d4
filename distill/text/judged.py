"""Comparisons and frontiers, in lines for a terminal."""

from collections.abc import Callable
from typing import Any

from distill import findings as f
from distill.text.words import percent, size, table


def _fixed(found: f.Fixed) -> str:
    from distill.reporting import told_settings

    rows = [
        (one.name, percent(one.accuracy), f"trial {one.trial}", told_settings(one))
        for one in found.chosen
    ]
    told = table(("taught by", "validation", "chosen", "settings"), rows)
    return (
        f"{told}\nno student has answered a test row yet; the same command without --search-only "
        "goes on"
    )


def _frontier(found: f.Frontier) -> str:
    from distill.reporting import shown

    rows = []
    for name, points in [("dense", (found.dense,)), *((c.name, c.points) for c in found.curves)]:
        for point in points:
            times = (f"{one.seconds * 1e3:.1f} ms" for one in point.latencies)
            rows.append(
                (
                    name,
                    f"{100 * point.share:.1f}",
                    percent(point.accuracy.mean),
                    f"{100 * point.difference.value:+.2f}",
                    "yes" if point.trained else "no",
                    ", ".join(times),
                )
            )
    header = ("network", "FLOPs %", "accuracy", "against dense", "trained", "time")
    return "\n".join([table(header, rows), "", *shown(found), *found.notes])


def _language(found: f.LanguageFrontier) -> str:
    from distill.reporting import told_language

    rows = [
        (
            name,
            f"{100 * point.share:.1f}",
            f"{point.perplexity:.4g}",
            f"{abs(point.divergence):.3f}",
            "yes" if point.trained else "no",
            ", ".join(f"{one.seconds * 1e3:.1f} ms" for one in point.latencies),
        )
        for name, points in [("dense", (found.dense,)), *((c.name, c.points) for c in found.curves)]
        for point in points
    ]
    header = ("network", "FLOPs %", "perplexity", "KL to dense", "trained", "time")
    return "\n".join([table(header, rows), "", *told_language(found), *found.notes])


def _comparison(found: f.Comparison) -> str:
    from distill.reporting import verdicts

    rows = [
        (
            way.name,
            percent(way.accuracy.mean) if way.accuracy else "",
            _over_seeds(way.accuracy),
            _versus(way.versus),
            f"{way.versus.adjusted:.3f}" if way.versus else "",
            way.versus.verdict if way.versus else "",
            size(way.shipped.stored_bytes) if way.shipped else "",
        )
        for way in found.ways
    ]
    header = ("taught by", "test accuracy", "95 %, seeds", "points", "p", "", "stored an example")
    teacher = f"teacher: {percent(found.teacher_accuracy)}"
    return "\n".join([table(header, rows), "", teacher, *verdicts(found), *found.notes])


def _over_seeds(band: f.Band | None) -> str:
    if band is None or band.interval is None:
        return ""
    low, high = max(band.interval.low, 0.0), min(band.interval.high, 1.0)
    return f"{100 * low:.1f} to {100 * high:.1f}"


def _versus(found: f.Versus | None) -> str:
    if found is None:
        return ""
    low, high = found.interval.low, found.interval.high
    return f"{100 * found.value:+.2f} ({100 * low:+.1f} to {100 * high:+.1f})"


WRITERS: dict[type, Callable[[Any], str]] = {
    f.Fixed: _fixed,
    f.Frontier: _frontier,
    f.LanguageFrontier: _language,
    f.Comparison: _comparison,
}
