"""A language model's frontier in sentences, a table and a drawing."""

import dataclasses
import math
from typing import Any

import pytest

from distill.findings import (
    Band,
    Interval,
    LanguageCurve,
    LanguageFrontier,
    LanguagePick,
    LanguagePoint,
    Latency,
)
from distill.reporting.budget_plots import flops_plot, time_plot
from distill.reporting.language import language_document, told
from distill.reporting.language_plots import perplexity_picture
from distill.reporting.markdown import to_markdown
from distill.reporting.page import to_html
from distill.text import as_text
from tests.frontier_examples import circles

DENSE = math.log(4.0)


def around(value: float, half: float = 0.01) -> Interval:
    return Interval(low=value - half, high=value + half)


def point(share: float, perplexity: float, **changes: Any) -> LanguagePoint:
    surprise = math.log(perplexity)
    made: dict[str, Any] = {
        "budget": share, "share": share, "parameters": round(1e6 * share), "trained": True,
        "surprise": Band(mean=surprise, interval=None), "interval": around(surprise, 0.05),
        "divergence": surprise - DENSE, "accuracy": 0.5, "agreement": 0.9,
        "rise": around(surprise - DENSE), "behind": None,
        "latencies": (Latency(batch=1, seconds=0.02 * share, device="cpu"),),
    }  # fmt: skip
    return LanguagePoint(**(made | changes))


def frontier(**changes: Any) -> LanguageFrontier:
    nested = LanguageCurve(
        name="nested", about="one network", seeds=1, trainings=1, updates=20,
        points=(point(0.4, 8.0), point(0.7, 4.1, trained=False), point(1.0, 4.0)),
    )  # fmt: skip
    svd = LanguageCurve(
        name="svd", about="cut", seeds=1, trainings=0, updates=0,
        points=(
            point(0.4, 3e9, latencies=(), trained=False, behind=around(5.0)),
            point(0.7, 9.0, latencies=(), trained=False, behind=around(0.0)),
            point(1.0, 3.9, latencies=(), trained=False, behind=around(-0.02)),
        ),
    )  # fmt: skip
    made: dict[str, Any] = {
        "name": "small-mlp", "model": "a/<b>small</b>", "data": "parquet:x", "tokens": 64,
        "vocabulary": 512, "rows": {"train": 9, "validation": 8, "test": 1200}, "layers": 4,
        "dense_flops": 38_400_000, "device": "cpu", "threads": 2,
        "dense": point(1.0, 4.0), "curves": (nested, svd),
        "picked": LanguagePick(
            tolerance=0.05, share=0.7, validation=around(0.02), test=around(0.03)
        ),
        "surgery": "told", "seconds": 3.0, "notes": ("a note",),
    }  # fmt: skip
    return LanguageFrontier(**(made | changes))


def test_what_is_picked_is_told_with_what_the_test_says() -> None:
    assert next(told(frontier())) == (
        "Picked on validation windows, with 95 % confidence of a perplexity at most 5 % above "
        "dense's: 70.0 % of dense FLOPs. On test windows it is 1.020 to 1.041 times dense's."
    )
    none = dataclasses.replace(frontier().picked, share=None)
    assert next(told(frontier(picked=none))) == (
        "No budget is shown on validation windows to have a perplexity at most 5 % above dense's: "
        "at the largest it is 1.010 to 1.030 times dense's."
    )


def test_where_a_rival_is_behind_and_ahead_is_told() -> None:
    (_, beside) = told(frontier())
    assert beside == (
        "svd: the nested network's perplexity is lower at 1 of 3 budgets, at no more FLOPs, behind "
        "it at 100.0 %."
    )


def test_the_table_holds_every_point_and_absurd_perplexities_are_cut() -> None:
    section = language_document(frontier(), "").sections[0]
    assert section.table is not None
    rows = section.table.rows
    assert [row[0] for row in rows] == ["dense", *["nested"] * 3, *["svd"] * 3]
    by_name = dict(zip((column.label for column in section.table.columns), rows[2], strict=True))
    assert by_name["perplexity"] == "4.1"
    assert by_name["of dense"] == "1.015 to 1.035"
    assert by_name["time, batch 1"] == "14 ms"
    assert by_name["of dense, batch 1"] == "0.7×"
    assert rows[4][3] == "above 1 M"
    assert rows[4][-1] == rows[4][-2] == "—"


def test_names_are_escaped_and_what_is_not_known_is_said() -> None:
    document = language_document(frontier(), "")
    page, text = to_html(document), to_markdown(document)
    assert "<b>small</b>" not in page
    assert document.title == "A language model of any budget"
    assert "Of one seed alone, whose spread over seeds is not known: nested." in text
    assert "on cpu with 2 threads" in text
    untimed = point(1.0, 4.0, latencies=())
    assert not any("Times are of" in line for line in language_document(
        frontier(dense=untimed), "").words.limits)  # fmt: skip


def test_perplexities_are_drawn_against_flops_and_time_each_where_it_lies() -> None:
    picture = perplexity_picture(frontier())
    found = circles(flops_plot(picture))
    assert [kind for kind, _, _ in found] == [
        "dot s0", "trace s0 open", "dot s0", "trace s1 open", "trace s1 open",
    ]  # fmt: skip
    nested = found[:3]
    assert [y for _, _, y in nested] == sorted(y for _, _, y in nested)  # 8.0 lies highest
    heights = [math.log(one.perplexity) for one in frontier().curves[0].points]
    rises = [(nested[2][2] - y) / (nested[2][2] - nested[0][2]) for _, _, y in nested]
    expected = [(h - heights[2]) / (heights[0] - heights[2]) for h in heights]
    assert rises == pytest.approx(expected, abs=1e-2)
    assert "picked: 70.0 %" in flops_plot(picture)
    timed = circles(time_plot(picture))
    assert len(timed) == 3  # svd has the nested network's layers, and was not timed
    assert [x for _, x, _ in timed] == sorted(x for _, x, _ in timed)
    bare = frontier(dense=point(1.0, 4.0, latencies=()))
    assert time_plot(perplexity_picture(bare)) == ""
    assert len(language_document(bare, "").sections) == 1


def test_the_terminal_shows_the_same_points() -> None:
    lines = as_text(frontier()).splitlines()
    assert lines[2].split() == ["dense", "100.0", "4", "0.000", "yes", "20.0", "ms"]
    assert sum(line.startswith("svd ") for line in lines) == 3
