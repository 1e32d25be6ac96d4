"""A frontier as drawings, tables, sentences and files."""

import dataclasses
from pathlib import Path

import pytest

from distill.findings import Frontier, Picked
from distill.reporting import write_frontier, write_report
from distill.reporting.budget_plots import flops_plot, time_plot
from distill.reporting.frontier_plots import accuracy_picture
from distill.reporting.frontier_tables import curves_table, nearest, points_table
from distill.reporting.frontiers import frontier_document, picked, shown
from distill.text import as_text
from tests.frontier_examples import around, certificate, circles, curve, frontier, point
from tests.reporting_examples import full_report


def test_every_point_is_drawn_where_it_lies_and_open_where_it_was_not_trained() -> None:
    found = circles(flops_plot(accuracy_picture(frontier())))
    assert len(found) == 7
    nested = [one for one in found if "s0" in one[0]]
    assert [("open" in kind) for kind, _, _ in nested] == [False, True, False]
    xs, ys = [x for _, x, _ in nested], [y for _, _, y in nested]
    assert xs == sorted(xs)
    assert ys == sorted(ys, reverse=True)  # higher accuracy, higher up
    assert (xs[1] - xs[0]) / (xs[2] - xs[0]) == pytest.approx(2 / 7, abs=1e-3)


def test_times_are_drawn_a_panel_a_batch_size_of_what_was_timed() -> None:
    found = circles(time_plot(accuracy_picture(frontier())))
    assert len(found) == 2 * (3 + 1)  # the truncated network was not timed
    left = [x for _, x, _ in found[:4]]
    assert max(left) < min(x for _, x, _ in found[4:])


def test_nothing_timed_is_not_drawn() -> None:
    found = frontier(dense=point(1.0, 0.9, timed=False))
    assert time_plot(accuracy_picture(found)) == ""
    assert "Nothing was timed." in frontier_document(found, "").sections[1].prose


def test_the_pick_is_a_line_and_none_is_none() -> None:
    assert "picked: 50.0 %" in flops_plot(accuracy_picture(frontier()))
    assert "picked" not in flops_plot(accuracy_picture(_unpicked(frontier())))


def _unpicked(found: Frontier) -> Frontier:
    one = Picked(
        tolerance=0.01, budget=None, share=None,
        validation=certificate(0.006, "undecided", rows_needed=3000),
        test=certificate(0.0, "undecided"), estimated=0.3,
    )  # fmt: skip
    return dataclasses.replace(found, picked=one)


def test_what_is_picked_is_told_with_what_the_test_says() -> None:
    assert picked(frontier()) == (
        "Picked on validation rows, with 95 % confidence at most 1 point worse than dense: "
        "50.0 % of dense FLOPs (the loss is 0.40 points, at most 0.80). On test rows the loss is "
        "1.00 points, at most 1.40: undecided."
    )


def test_nothing_shown_is_told_with_the_rows_that_would_decide() -> None:
    told = picked(_unpicked(frontier()))
    assert told.startswith("No budget is shown on validation rows")
    assert "about 3 k rows would decide" in told
    assert "30.0 % of dense FLOPs" in told


def test_a_rival_that_is_ahead_is_told() -> None:
    ahead = curve("width nesting", point(0.4, 0.9), point(1.0, 0.92))
    better = dataclasses.replace(
        ahead, behind=dataclasses.replace(point(1.0, 0.93).difference, interval=around(0.03))
    )
    found = frontier()
    told = " ".join(shown(dataclasses.replace(found, curves=(found.curves[0], better))))
    assert "width nesting: ahead of the nested network in area, +3.0 points" in told
    behind = " ".join(shown(found))
    assert "truncated SVD: behind the nested network in area, −38.0 points" in behind
    assert (
        "half of the layers: behind the nested network at 52.0 % of dense FLOPs (nested: 50.0 %), "
        "−2.0 points" in behind
    )


def test_times_at_half_of_the_flops_are_told_in_shares_of_dense() -> None:
    found = frontier()
    told = " ".join(shown(found))
    assert "A budget of 50.0 % of dense FLOPs: −1.0 points (95 %: −2.0 to 0.0)" in told
    assert "0.5× its time at batch 32" in told
    assert "A budget of 35.0 %" not in told  # none was measured for it; that of 30 % says less
    asked = curve("nested", point(0.3, 0.85, budget=0.35), *found.curves[0].points[1:])
    told = " ".join(shown(dataclasses.replace(found, curves=(asked, *found.curves[1:]))))
    assert "A budget of 35.0 % of dense FLOPs, of which it takes 30.0 %:" in told


def test_what_more_teaching_alone_gives_stands_beside_the_budget() -> None:
    found = frontier()
    assert "taught as long" not in " ".join(shown(found))
    longer = curve("longer", point(1.0, 0.92), area=None, falls=None)
    beside = dataclasses.replace(found, curves=(*found.curves, longer))
    assert "0.5× its time at batch 32; dense, taught as long, has 92.0 %." in " ".join(
        shown(beside)
    )
    limits = " ".join(frontier_document(beside, "A title").words.limits)
    assert "had 120 updates more, as longer had, which is dense too." in limits


def test_the_dearest_point_that_a_budget_pays_for() -> None:
    ours = frontier().curves[0]
    found = [nearest(ours, budget) for budget in (0.2, 0.3, 0.49, 0.5, 1.0)]
    assert [one and one.share for one in found] == [None, 0.3, 0.3, 0.5, 1.0]


def test_tables_have_a_row_for_each_network_and_each_point() -> None:
    found = frontier()
    curves, points = curves_table(found), points_table(found)
    assert [row[0] for row in curves.rows] == ["nested", "truncated SVD", "half of the layers"]
    assert curves.rows[1][4] == "no: 1 of 2 steps, at most 0.4 points at 50.0 %"
    assert len(points.rows) == 1 + 3 + 3 + 1
    assert all(len(row) == len(points.columns) for row in points.rows)
    assert points.rows[2][-1] == "0.5×"
    assert points.rows[4][-1] == "—"


def test_files_say_it_and_escape_what_they_are_given(tmp_path: Path) -> None:
    found = frontier()
    write_frontier(found, tmp_path, title="<b>bold</b>")
    page = (tmp_path / "frontier.html").read_text()
    assert "&lt;b&gt;bold" in page
    assert "a &lt;note&gt; &amp; more" in page
    assert "<svg" in page
    assert "truncated SVD" in (tmp_path / "frontier.md").read_text()
    assert Frontier.from_json(found.to_json()) == found


def test_the_report_shows_it_too(tmp_path: Path) -> None:
    report = dataclasses.replace(full_report(), frontier=frontier())
    write_report(report, tmp_path)
    assert "budgets of a nested network" in (tmp_path / "report.html").read_text()


def test_every_sentence_is_said_once_in_each_document(tmp_path: Path) -> None:
    found = frontier()
    write_frontier(found, tmp_path, title="Costs")
    write_report(dataclasses.replace(full_report(), frontier=found), tmp_path)
    for page in ("frontier.md", "report.md"):
        text = (tmp_path / page).read_text()
        for sentence in shown(found):
            assert text.count(sentence.partition(" (")[0]) == 1, (page, sentence)


def test_a_terminal_is_told_every_point() -> None:
    told = as_text(frontier())
    assert told.count("truncated SVD") >= 3
    assert "Picked on validation rows" in told
