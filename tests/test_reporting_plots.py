import dataclasses
import itertools
from xml.etree import ElementTree

import pytest

from distill.findings import Report
from distill.reporting import plots, sizes
from tests.reporting_examples import (
    full_report,
    head,
    imported_report,
    projected,
    smallest_report,
    student,
    validation,
)

SVG = "{http://www.w3.org/2000/svg}"


def read(drawn: str) -> ElementTree.Element:
    return ElementTree.fromstring(drawn)


def texts(drawn: str) -> list[str]:
    return [node.text or "" for node in read(drawn).iter(f"{SVG}text")]


def titles(drawn: str) -> list[str]:
    return [node.text or "" for node in read(drawn).iter(f"{SVG}title")]


def dots(drawn: str, color: str = "s0") -> list[tuple[float, float]]:
    """Marks inside the frame; the legend's stand above it."""
    found = [
        (float(node.attrib["cx"]), float(node.attrib["cy"]))
        for node in read(drawn).iter(f"{SVG}circle")
        if node.attrib["class"] == f"dot {color}"
    ]
    return [(x, y) for x, y in found if y > 20]


def test_every_head_is_a_mark_further_right_the_higher_its_factor() -> None:
    marks = dots(plots.accuracy_plot(full_report()))
    assert len(marks) == 6
    assert [x for x, _ in marks] == sorted(x for x, _ in marks)
    steps = [b[0] - a[0] for a, b in itertools.pairwise(marks)]
    assert steps[0] == pytest.approx(steps[1], abs=0.02)  # 2, 4, 8: equal steps of a log axis
    assert steps[3] == pytest.approx(2 * steps[0], abs=0.03)  # 16 to 64
    assert marks[-1][1] > marks[0][1]  # the lowest accuracy is drawn lowest


def test_marks_stand_at_their_accuracy_on_the_scale_that_is_drawn() -> None:
    drawn = plots.accuracy_plot(full_report())
    scale = {}
    for node in read(drawn).iter(f"{SVG}text"):
        if node.attrib["text-anchor"] == "end" and (node.text or "").isdecimal():
            scale[float(node.text or "")] = float(node.attrib["y"]) - 4
    per_point = (scale[70] - scale[100]) / 30
    lowest = dots(drawn)[-1][1]
    assert 100 - (lowest - scale[100]) / per_point == pytest.approx(74.2, abs=0.02)


def test_the_second_axis_and_the_line_of_the_classes_are_there() -> None:
    shown = texts(plots.accuracy_plot(full_report()))
    assert {"114", "14.2", "0.889", "k / (C − 1)", "k = C − 1 = 9", "256×", "k 8"} <= set(shown)


def test_the_line_of_the_classes_stands_between_the_factors_around_it() -> None:
    drawn = plots.accuracy_plot(full_report())
    at = next(
        float(n.attrib["x1"]) for n in read(drawn).iter(f"{SVG}line")
        if n.attrib["class"] == "classes"
    )  # fmt: skip
    marks = [x for x, _ in dots(drawn)]
    assert marks[4] < at < marks[5]  # 64x has k 32, 256x has k 8; C - 1 is 9


def test_a_far_away_line_of_the_classes_is_left_out() -> None:
    two = dataclasses.replace(full_report(), classes=2)
    assert not any(shown.startswith("k = C − 1") for shown in texts(plots.accuracy_plot(two)))


def test_the_full_head_is_a_line_with_its_interval() -> None:
    assert "full head: 97.5 % (95.3–98.7)" in titles(plots.accuracy_plot(full_report()))
    without = dataclasses.replace(full_report(), heads=full_report().heads[1:])
    assert "full head" not in texts(plots.accuracy_plot(without))


def test_kinds_have_their_own_colour_and_seeds_share_one_line() -> None:
    heads = (
        head(1), head(4), head(16, seed=0, accuracy=0.90), head(16, seed=1, accuracy=0.96),
        head(4, kind="pca"), head(16, kind="pca"),
    )  # fmt: skip
    drawn = plots.accuracy_plot(dataclasses.replace(full_report(), heads=heads))
    assert (len(dots(drawn, "s0")), len(dots(drawn, "s1"))) == (3, 2)
    traces = [n for n in read(drawn).iter(f"{SVG}path") if n.attrib["class"] == "trace s0"]
    assert len(traces) == 1
    end = float(traces[0].attrib["d"].rsplit(" ", 1)[1])
    assert not any(
        n.attrib["class"] == "whisker s0" and float(n.attrib["x1"]) > 400
        for n in read(drawn).iter(f"{SVG}line")
    )  # of several seeds the dots are shown, of one its interval
    low, high = sorted(y for x, y in dots(drawn, "s0") if x > 300)
    assert end == pytest.approx((low + high) / 2, abs=0.02)  # the mean of the two seeds


def test_one_factor_is_drawn_too_and_no_factor_is_not() -> None:
    one = dataclasses.replace(full_report(), heads=(head(1), head(16)))
    assert len(dots(plots.accuracy_plot(one))) == 1
    assert plots.accuracy_plot(smallest_report()) == ""


def test_histograms_share_a_scale_so_that_widths_compare() -> None:
    drawn = plots.distortion_plots(full_report())
    assert len(drawn) == 6

    def width(one: str) -> float:
        outline = next(n for n in read(one).iter(f"{SVG}path") if n.attrib["class"] == "bar")
        xs = [float(pair.split(" ")[0]) for pair in outline.attrib["d"][1:-1].split("L")]
        return max(xs) - min(xs)

    widths = [width(one) for one in drawn]
    assert widths == sorted(widths)
    assert widths[3] == pytest.approx(8**0.5 * widths[0], rel=0.02)


def test_histograms_without_counts_are_left_out() -> None:
    found = validation(128)
    bare = dataclasses.replace(
        found,
        distortion=dataclasses.replace(
            found.distortion, histogram_edges=(), histogram_counts=()
        ),
    )  # fmt: skip
    report = dataclasses.replace(full_report(), projected=(projected(16, bare),))
    assert plots.distortion_plots(report) == []


def test_size_counts_the_backbone_for_compressed_heads() -> None:
    told = titles(sizes.size_plot(full_report()))
    assert "full head: 23.5 M parameters, 97.5 % (95.3–98.7)" in told
    assert any(line.startswith("256×: 23.5 M parameters") for line in told)
    assert any(line.startswith("k = 128: 402 k parameters") for line in told)
    assert any(line.startswith("from labels only: 402 k") for line in told)


def test_marks_of_one_size_stand_side_by_side_in_their_order() -> None:
    assert sizes._side_by_side([100, 500, 101], room=10) == [95.5, 500, 105.5]
    assert sizes._side_by_side([100, 200]) == [100, 200]


def test_without_a_teacher_s_size_there_is_nothing_to_compare() -> None:
    assert sizes.size_plot(imported_report()) == ""


@pytest.mark.parametrize("measured", [True, False])
def test_the_teacher_s_size_is_measured_or_else_as_the_student_knows_it(measured: bool) -> None:
    report = full_report()
    if not measured:
        report = dataclasses.replace(report, costs=(), taught=None)
    assert sizes.teacher_parameters(report) == 23_528_522
    alone = dataclasses.replace(report, costs=(), students=(), taught=None)
    assert sizes.teacher_parameters(alone) == 0


def test_names_from_data_cannot_leave_their_element() -> None:
    evil = "</text><script>alert(1)</script>"
    heads = (head(1), head(16, kind=evil), head(4, kind=evil))
    report = dataclasses.replace(
        full_report(), heads=heads, students=(student(evil, 0.9, name=evil),)
    )
    for drawn in (plots.accuracy_plot(report), sizes.size_plot(report)):
        read(drawn)
        assert "<script" not in drawn


def test_drawing_twice_gives_the_same_bytes() -> None:
    def all_of(report: Report) -> list[str]:
        drawn = [plots.accuracy_plot(report), sizes.size_plot(report)]
        return [*drawn, *plots.distortion_plots(report)]

    assert all_of(full_report()) == all_of(full_report())
