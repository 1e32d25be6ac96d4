"""A comparison as drawing, tables, sentences and files; whatever data brings is made harmless."""

import dataclasses
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from distill.comparing.statistics import AHEAD, BEHIND, NO_DIFFERENCE
from distill.findings import Band, Chosen, Comparison, Interval, SeedScore, Shipped, Versus, Way
from distill.reporting import verdicts, write_comparison, write_report
from distill.reporting.bytes_plot import bytes_plot
from distill.reporting.comparison_tables import learning_table, shipped_table, ways_table
from distill.reporting.comparisons import comparison_document
from distill.text import as_text
from tests.reporting_examples import full_report

SVG = "{http://www.w3.org/2000/svg}"


def band(mean: float, half: float = 0.01) -> Band:
    return Band(mean=mean, interval=Interval(low=mean - half, high=mean + half))


def versus(value: float, verdict: str, adjusted: float) -> Versus:
    interval = Interval(low=value - 0.02, high=value + 0.02)
    return Versus(
        against="subspace", value=value, interval=interval, p=adjusted / 2, adjusted=adjusted,
        verdict=verdict,
    )  # fmt: skip


def way(name: str, accuracy: float, stored: int, **changes: Any) -> Way:
    chosen = Chosen(
        name=name, trial=2, settings={"learning_rate": 0.0031234, "temperature": 4.0},
        accuracy=0.8, loss=0.5,
    )  # fmt: skip
    seed = SeedScore(
        seed=1, accuracy=accuracy, agreement=0.9, recall=0.4, steps=120.0, seconds=3.0, loss=0.25,
        trained_seconds=9.0,
    )  # fmt: skip
    shipped = Shipped(
        stored_bytes=stored, parameters=12_345, multiply_adds=2_000_000, latency=0.002,
        barrier=0.125,
    )  # fmt: skip
    made = Way(
        name=name, about=f"learns {name}", chosen=chosen, seeds=(seed,), accuracy=band(accuracy),
        agreement=band(0.9), recall=band(0.4), steps=band(120.0), seconds=band(3.0),
        loss=band(0.25), worst_class="cat", worst_class_accuracy=0.6, shipped=shipped,
    )  # fmt: skip
    return dataclasses.replace(made, **changes)


OURS = way("subspace", 0.9, 256)
LABELS = way("labels", 0.8, 8, versus=versus(-0.1, BEHIND, 0.0004), recall=None)
LOGITS = way("logits", 0.91, 48, versus=versus(0.01, NO_DIFFERENCE, 0.4))
FEATURES = way("features", 0.95, 8192, versus=versus(0.05, AHEAD, 0.012))
TRIED = Way(name="dkd", about="learns dkd", chosen=OURS.chosen)


def comparison(*ways: Way, **changes: Any) -> Comparison:
    made = Comparison(
        reference="subspace", target="gaussian-k128-s0", digest="sha256:x",
        network="timm/resnet10t", classes=10,
        rows={"train": 1000, "validation": 100, "test": 2000}, epochs=20, trials=4,
        seeds=5, teacher_accuracy=0.97, ways=ways or (OURS, LABELS, LOGITS, FEATURES, TRIED),
        seconds=100.0, notes=("online is left out",),
    )  # fmt: skip
    return dataclasses.replace(made, **changes)


def cells(name: str, table: Any) -> dict[str, str]:
    row = next(row for row in table.rows if row[0] == name)
    return dict(zip([column.label for column in table.columns], row, strict=True))


# --- sentences -----------------------------------------------------------------------------------


def test_each_difference_is_a_sentence_and_the_rest_is_no_difference_shown() -> None:
    assert list(verdicts(comparison())) == [
        "features is ahead of subspace by 5.0 points (95 %: +3.0 to +7.0; p = 0.012).",
        "subspace is ahead of labels by 10.0 points (95 %: +8.0 to +12.0; p < 0.001).",
        "No difference is shown between subspace and logits.",
    ]


def test_a_subspace_that_wins_nowhere_is_said_not_to() -> None:
    told = list(verdicts(comparison(OURS, LOGITS, FEATURES)))
    assert told[-1].startswith("subspace does not win here")
    several = dataclasses.replace(LOGITS, name="dkd"), dataclasses.replace(LOGITS, name="vkd")
    told = list(verdicts(comparison(OURS, LOGITS, *several)))
    assert told[0] == "No difference is shown between subspace and logits, dkd and vkd."
    assert list(verdicts(comparison(OURS))) == []


# --- tables --------------------------------------------------------------------------------------


def test_the_table_of_ways_shows_every_figure() -> None:
    table = ways_table(comparison())
    assert cells("features", table) == {
        "taught by": "features", "accuracy %": "95.0", "95 %, seeds": "94.0–96.0",
        "against subspace, points": "+5.0 (+3.0 to +7.0)", "p, Holm": "0.012", "verdict": "ahead",
        "worst class %": "60.0 (cat)", "agreement %": "90.0", "recall@10 %": "40.0",
    }  # fmt: skip
    assert cells("subspace", table)["verdict"] == "the reference"
    assert cells("labels", table)["recall@10 %"] == "—"
    assert cells("labels", table)["p, Holm"] == "< 0.001"
    tried = cells("dkd", table)
    assert (tried["accuracy %"], tried["verdict"]) == ("—", "no finalist")
    assert table.marked == (0,)


def test_the_other_tables_show_what_was_chosen_learned_and_paid() -> None:
    learned = cells("features", learning_table(comparison()))
    assert learned["chosen on validation"] == "trial 2: learning_rate 0.00312, temperature 4"
    assert learned["steps to 95 %"] == "120"
    assert learned["time to 95 %"] == "3 s"
    assert learned["last training loss"] == "0.25"
    assert learned["barrier of two seeds"] == "0.125"
    paid = cells("features", shipped_table(comparison()))
    assert list(paid.values()) == ["features", "8.19 kB", "12,345", "2 M", "2 ms"]
    assert [row[0] for row in shipped_table(comparison()).rows][-1] == "features"


def test_an_interval_over_seeds_stays_a_share() -> None:
    wide = dataclasses.replace(OURS, accuracy=band(0.97, 0.1))
    assert cells("subspace", ways_table(comparison(wide)))["95 %, seeds"] == "87.0–100.0"
    alone = dataclasses.replace(OURS, accuracy=Band(mean=0.97, interval=None))
    assert cells("subspace", ways_table(comparison(alone)))["95 %, seeds"] == "—"


# --- the drawing ---------------------------------------------------------------------------------


def dots(drawn: str) -> dict[str, tuple[float, float]]:
    """Where each mark stands, by the beginning of what a pointer is shown."""
    found = {}
    for group in ElementTree.fromstring(drawn).iter(f"{SVG}g"):
        told, circle = group.find(f"{SVG}title"), group.find(f"{SVG}circle")
        if told is not None and circle is not None and told.text:
            name = told.text.partition(":")[0]
            found[name] = float(circle.attrib["cx"]), float(circle.attrib["cy"])
    return found


def test_more_bytes_are_further_right_and_better_is_higher() -> None:
    wide = dataclasses.replace(FEATURES, accuracy=band(0.95, 0.04))  # its mark stays at the mean
    at = dots(bytes_plot(comparison(OURS, LABELS, LOGITS, wide)))
    assert set(at) == {"subspace", "labels", "logits", "features"}
    assert at["labels"][0] < at["logits"][0] < at["subspace"][0] < at["features"][0]
    assert at["features"][1] < at["logits"][1] < at["subspace"][1] < at["labels"][1]
    # 90 lies twice as far above 80 as 95 above 90
    gap = at["subspace"][1] - at["features"][1]
    assert at["labels"][1] - at["subspace"][1] == pytest.approx(2 * gap, abs=0.1)
    step = at["features"][0] - at["subspace"][0]  # a factor of 32, on a log axis
    assert step == pytest.approx(at["subspace"][0] - at["labels"][0], abs=0.05)  # another 32


def test_what_stores_nothing_is_not_drawn_and_one_size_is_no_drawing() -> None:
    online = way("online", 0.93, 0, versus=versus(0.03, NO_DIFFERENCE, 0.2))
    assert "online" not in dots(bytes_plot(comparison(OURS, LABELS, online)))
    assert bytes_plot(comparison(OURS, online)) == ""


def test_the_teacher_is_a_line_above() -> None:
    drawn = bytes_plot(comparison())
    titles = [node.text or "" for node in ElementTree.fromstring(drawn).iter(f"{SVG}title")]
    assert "the teacher's full head: 97.0 %" in titles


# --- files ---------------------------------------------------------------------------------------


def test_page_and_markdown_say_the_same(tmp_path: Path) -> None:
    write_comparison(comparison(), tmp_path, title="Photos")
    page = (tmp_path / "compare.html").read_text()
    text = (tmp_path / "compare.md").read_text()
    for told in ("no finalist", "online is left out", "Which way of teaching is ahead?"):
        assert told in page
    assert "No difference is shown between subspace and logits." in text
    assert "no finalist" in text
    assert "<svg" in page
    assert page.count("<table") == 3


def test_the_report_holds_the_comparison(tmp_path: Path) -> None:
    report = dataclasses.replace(full_report(), comparison=comparison())
    paths = write_report(report, tmp_path)
    assert "Ways to teach, side by side" in paths.html.read_text()
    assert "features is ahead of subspace" in paths.markdown.read_text()


def test_limits_say_what_could_not_be_shown() -> None:
    limits = comparison_document(comparison(), "x").words.limits
    assert "known to 2.0 points or better" in limits[0]
    assert limits[0].startswith("With 5 seeds and 2,000 test rows")
    assert "4 trials" in limits[1]
    alone = comparison_document(comparison(seeds=1), "x").words.limits
    assert alone[0].startswith("With 1 seed and")


def test_names_from_data_cannot_break_the_page(tmp_path: Path) -> None:
    bad = "<script>alert(1)</script>\u202e"
    found = comparison(OURS, way("labels", 0.8, 8, worst_class=bad), notes=(bad,))
    write_comparison(found, tmp_path, title=bad)
    page = (tmp_path / "compare.html").read_text()
    assert "<script>alert" not in page
    assert "\u202e" not in page


def test_a_terminal_shows_one_row_a_way() -> None:
    text = as_text(comparison())
    lines = text.splitlines()
    assert lines[0].split()[:2] == ["taught", "by"]
    row = next(line for line in lines if line.startswith("features"))
    assert "95.00 %" in row
    assert "+5.00 (+3.0 to +7.0)" in row
    assert "ahead" in row
    assert "No difference is shown between subspace and logits." in lines
    assert lines[-1] == "online is left out"
    assert max(map(len, lines)) <= 120
