"""The sweep as drawing, tables, sentences and files; whatever data brings is made harmless."""

import dataclasses
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from distill.certify import NOT_TESTED, UNDECIDED, WITHIN
from distill.findings import Band, Sweep
from distill.reporting import recommendation, write_report, write_sweep
from distill.reporting.curves import sweep_plot
from distill.reporting.sweep_tables import (
    certified_down_to,
    details_table,
    diagnostics_table,
    families_table,
    lost_points,
    maps_table,
    seed_interval,
)
from distill.reporting.sweeps import sentences, sweep_document
from distill.text import as_text
from tests.reporting_examples import full_report
from tests.sweep_findings import (
    CLASSES,
    DIM,
    band,
    certificate,
    full_sweep,
    on_test,
    recommended,
    swept_map,
)

SVG = "{http://www.w3.org/2000/svg}"


def read(drawn: str) -> ElementTree.Element:
    return ElementTree.fromstring(drawn)


def of_class(drawn: str, tag: str, name: str) -> list[ElementTree.Element]:
    return [node for node in read(drawn).iter(f"{SVG}{tag}") if node.attrib.get("class") == name]


def dots(drawn: str, color: str) -> list[tuple[float, float]]:
    """Marks inside the frame; the legend's stand above it."""
    found = [
        (float(n.attrib["cx"]), float(n.attrib["cy"])) for n in of_class(drawn, "circle",
                                                                         f"dot {color}")
    ]  # fmt: skip
    return [(x, y) for x, y in found if y > 40]


# --- the drawing ---------------------------------------------------------------------------------


def test_widths_stand_on_a_log_axis_and_wider_is_further_right() -> None:
    marks = dots(sweep_plot(full_sweep()), "s0")
    xs = [x for x, _ in marks]
    assert xs == sorted(xs)
    step = xs[3] - xs[2]  # 128 to 256
    assert xs[2] - xs[1] == pytest.approx(2 * step, abs=0.05)  # 32 to 128
    assert marks[0][1] > marks[3][1]  # less accurate is drawn lower


def test_every_kind_has_a_line_a_band_and_a_name() -> None:
    drawn = sweep_plot(full_sweep())
    for color in ("s0", "s1"):
        assert len(dots(drawn, color)) == 4
        assert len(of_class(drawn, "path", f"trace {color}")) == 1
        (spread,) = of_class(drawn, "path", f"spread {color}")
        assert spread.attrib["d"].endswith("Z")
    shown = [node.text for node in read(drawn).iter(f"{SVG}text")]
    assert {"gaussian", "pca", "full head", "k = C − 1 = 20", "−1.0 points"} <= set(shown)


def test_a_band_is_as_high_as_its_interval() -> None:
    drawn = sweep_plot(full_sweep())
    scale = {
        float(n.text or ""): float(n.attrib["y"]) - 4
        for n in read(drawn).iter(f"{SVG}text")
        if n.attrib["text-anchor"] == "end" and (n.text or "").isdecimal()
    }
    low, high = sorted(scale)[0], sorted(scale)[-1]
    per_point = (scale[low] - scale[high]) / (high - low)
    (spread,) = of_class(drawn, "path", "spread s1")
    ys = [float(pair.split(" ")[1]) for pair in spread.attrib["d"][1:-1].split("L")]
    assert ys[-1] - ys[0] == pytest.approx(2 * per_point, abs=0.1)  # ± 1 point at the first width
    full = of_class(drawn, "line", "full")[0]
    tolerance = of_class(drawn, "line", "tolerance")[0]
    apart = float(tolerance.attrib["y1"]) - float(full.attrib["y1"])
    assert apart == pytest.approx(per_point, abs=0.05)


def test_the_line_of_the_classes_stands_between_its_neighbours() -> None:
    drawn = sweep_plot(full_sweep())
    (line,) = of_class(drawn, "line", "classes")
    xs = [x for x, _ in dots(drawn, "s0")]
    assert xs[0] < float(line.attrib["x1"]) < xs[1]  # 8 < 20 < 32
    assert not of_class(sweep_plot(full_sweep(classes=1000)), "line", "classes")


def test_one_seed_one_width_and_many_kinds_are_drawn() -> None:
    alone = Band(mean=0.9, interval=None)
    one = dataclasses.replace(full_sweep().maps[0], accuracy=alone)
    read(sweep_plot(full_sweep(maps=(one,))))
    many = tuple(swept_map(f"kind {n}", 32, 0.01 * n, WITHIN) for n in range(12))
    drawn = sweep_plot(full_sweep(maps=many))
    keys = [n for n in read(drawn).iter(f"{SVG}text") if n.attrib["class"] == "t key"]
    assert len({n.attrib["y"] for n in keys}) > 1  # the legend goes on in a second line
    assert max(float(n.attrib["x"]) for n in keys) < 836
    axis = [n for n in read(drawn).iter(f"{SVG}text") if n.text == "accuracy, %"]
    assert float(axis[0].attrib["y"]) > max(float(n.attrib["y"]) for n in keys) + 12
    assert sweep_plot(full_sweep(maps=())) == ""


# --- tables and sentences ------------------------------------------------------------------------


def test_the_recommended_row_is_marked_and_certificates_stand_beside() -> None:
    table = families_table(full_sweep())
    assert table.marked == (1,)
    assert table.rows[1][:4] == ("pca", "8", "64×", f"{8 * (DIM + CLASSES):,}")
    assert table.rows[1][-2:] == ("worse", "32")
    assert table.rows[0][-2:] == ("within", "256")
    kept = recommended("gaussian", DIM, "")
    table = families_table(full_sweep(families=(kept,)))
    assert table.rows[0][1] == "none"


def test_only_what_was_certified_counts_as_certified() -> None:
    assert certified_down_to(full_sweep()) == {"gaussian": 256, "pca": 32}


def test_every_map_is_a_row_and_the_full_head_the_first() -> None:
    found = full_sweep()
    table = maps_table(found)
    assert len(table.rows) == 9
    assert table.rows[0][0] == "full head"
    row = table.rows[2]
    assert row[:3] == ("gaussian", "128", "6.4")
    assert row[5:8] == ("1.30", "1.80", "no")
    assert row[12] == "undecided (≈ 4.2 k rows)"
    assert all(len(row) == len(table.columns) for row in table.rows)
    details = details_table(found)
    assert details.rows[1][2] == "88.8 ± 1.0"
    assert all(len(row) == len(details.columns) for row in details.rows)


def test_losses_and_bands_as_text() -> None:
    assert [lost_points(loss) for loss in (0.0123, -0.004, -0.00001)] == ["1.23", "−0.40", "0.00"]
    assert seed_interval(band(0.995)) == "98.5–100.0"
    assert seed_interval(Band(mean=0.9, interval=None)) == "—"


@pytest.mark.parametrize(
    ("verdict", "needed", "words"),
    [
        (WITHIN, None, "The test rows agree: the loss is 0.80 points, and with 95 %"),
        ("worse", None, "The test rows contradict it: the loss is 0.80 points"),
        (UNDECIDED, 4200, "leave it open: the loss is 0.80 points, and with 95 % confidence at "
         "most 1.40; about 4.2 k test rows would decide"),
        (UNDECIDED, None, "no number of test rows alone would decide"),
        (NOT_TESTED, None, "It is not certified, as a larger width was not"),
    ],
)  # fmt: skip
def test_the_test_s_verdict_stands_beside_the_recommendation(
    verdict: str, needed: int | None, words: str
) -> None:
    found = full_sweep()
    last = dataclasses.replace(
        found.maps[-1], tested=on_test(0.89, certificate(verdict, 0.008, needed=needed))
    )
    said = recommendation(dataclasses.replace(found, maps=(*found.maps[:-1], last)))
    assert said.startswith("Recommended: pca at k = 8 (64× fewer numbers): it loses 0.80 points")
    assert words in said


def test_where_nothing_holds_it_says_so() -> None:
    found = full_sweep(best=recommended("full", DIM, ""))
    lost = tuple(dataclasses.replace(one, holds=False) for one in found.maps)
    nothing = dataclasses.replace(found, maps=lost)
    assert recommendation(nothing).startswith("Keep all 512 features: no map of the kinds tried")
    none = dataclasses.replace(found, maps=found.maps[2:4])
    assert any("no map is shown to be at most 1 point worse" in line for line in sentences(none))


def test_the_recommendation_comes_first_everywhere() -> None:
    found = full_sweep()
    document = sweep_document(found, "Title")
    assert document.words.shows[0] == recommendation(found)
    assert document.sections[0].prose[0] == recommendation(found)
    assert as_text(found).startswith(recommendation(found))
    assert found.sentence in document.words.shows


# --- files ---------------------------------------------------------------------------------------


def test_the_files_are_written_and_the_same_twice(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_sweep(full_sweep(), tmp_path / name, title="Flowers")
    for end in ("md", "html"):
        first, second = ((tmp_path / name / f"sweep.{end}").read_bytes() for name in "ab")
        assert first == second
    page = (tmp_path / "a/sweep.html").read_text()
    assert "sweep.json beside it" in page
    assert page.count("<svg") == 1
    text = (tmp_path / "a/sweep.md").read_text()
    assert text.startswith("# Flowers")
    assert "| **pca** | 8 | 64× |" in text
    assert "intrinsic dimension, TwoNN" in text


def test_the_report_has_the_same_sections(tmp_path: Path) -> None:
    without = write_report(full_report(), tmp_path)
    before = without.html.read_text()
    assert "How far can it be compressed?" not in before
    report = dataclasses.replace(full_report(), sweep=full_sweep())
    paths = write_report(report, tmp_path)
    page, text = paths.html.read_text(), paths.markdown.read_text()
    for shown in (page, text):
        assert "How far can it be compressed?" in shown
        assert "What the data has" in shown
    assert text.split("## What this shows")[1].lstrip().startswith("- Recommended: pca at k = 8")
    assert "Only maps drawn from a seed were tried" in before
    assert "Only maps drawn from a seed were tried" not in page


EVIL = "<script>alert(1)</script>|`*[x](y)"


def test_names_from_data_stay_text(tmp_path: Path) -> None:
    maps = tuple(dataclasses.replace(one, kind=EVIL) for one in full_sweep().maps[:4])
    found: Sweep = full_sweep(
        maps=maps, best=recommended(EVIL, 256, WITHIN), families=(recommended(EVIL, 256, WITHIN),),
        notes=(EVIL,), sentence=EVIL,
    )  # fmt: skip
    write_sweep(found, tmp_path, title=EVIL)
    page = (tmp_path / "sweep.html").read_text()
    assert "<script" not in page
    text = (tmp_path / "sweep.md").read_text()
    assert "<script" not in text
    assert not re.search(r"(?<!\\)\[x", text)
    read(sweep_plot(found))


def test_what_the_data_has_stands_in_one_order_however_it_was_read() -> None:
    found = full_sweep()
    assert found.diagnostics is not None
    turned = dict(sorted(found.diagnostics.figures.items(), reverse=True))
    other = dataclasses.replace(
        found, diagnostics=dataclasses.replace(found.diagnostics, figures=turned)
    )
    assert diagnostics_table(other) == diagnostics_table(found)


def test_where_what_holds_saves_nothing_it_says_so() -> None:
    found = full_sweep(best=recommended("full", DIM, ""))
    assert any(one.holds for one in found.maps)
    assert "none costs less, as map and head fold into one matrix" in recommendation(found)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (100, "With 100 test rows a map that loses nothing is certified at no discordance"),
        (2305, "With 2,305 test rows a map that loses nothing is certified only if at most 8.2 %"),
    ],
)
def test_how_much_discordance_the_test_rows_allow_is_said(rows: int, told: str) -> None:
    found = full_sweep()
    found = dataclasses.replace(found, rows={**found.rows, "test": rows})
    assert any(one.startswith(told) for one in sweep_document(found, "a title").words.limits)
