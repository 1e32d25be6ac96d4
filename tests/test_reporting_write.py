import dataclasses
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from distill.findings import ExtractedSplit, FindingError, PrefixScore, Report
from distill.reporting import compression_table, derive, load_report, write_report
from distill.reporting.derived import with_derived
from distill.reporting.markdown import escaped
from distill.reporting.page import together
from tests.reporting_examples import (
    difference,
    full_report,
    head,
    imported_report,
    projected,
    score,
    smallest_report,
    student,
    validation,
)

EVIL = '<script>alert("x")</script>|pipe\nline `code` [link](http://x) \x1b[31m & $a$'


class Page(HTMLParser):
    """What a browser would make of the page: elements, attributes, text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self.feed(text)
        self.text = " ".join(" ".join(self.words).replace("\N{NO-BREAK SPACE}", " ").split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def page_of(report: Report, folder: Path) -> Page:
    return Page(write_report(report, folder).html.read_text(encoding="utf-8"))


def evil_report() -> Report:
    report = full_report()
    evil_score = score(0.9, worst=EVIL)
    return dataclasses.replace(
        report,
        title=EVIL, dataset=EVIL, data_note=EVIL, teacher=EVIL, notes=(EVIL,),
        heads=(head(1), dataclasses.replace(head(16), name=EVIL, kind=EVIL, test=evil_score)),
        projected=(dataclasses.replace(projected(16, validation(128, failed=True)), name=EVIL),),
        students=(student("subspace", 0.9, name=EVIL, network=EVIL, notes=(EVIL,)),),
        extracted=dataclasses.replace(
            report.extracted,
            splits=(ExtractedSplit(split=EVIL, rows=3, skipped=(EVIL,)),), notes=(EVIL,),
        ),
        environment={EVIL: {EVIL: EVIL}},
    )  # fmt: skip


def test_the_json_is_the_report_with_its_derived_rows(tmp_path: Path) -> None:
    paths = write_report(full_report(), tmp_path)
    assert load_report(paths.json) == with_derived(full_report())
    assert Report.load(paths.json) == with_derived(full_report())
    held = json.loads(paths.json.read_text())
    assert held["derived"]["break_even"] == pytest.approx(20480 / 2058)
    assert held["derived"]["heads"][4]["charged_multiply_adds"] == 20480


def test_three_files_and_nothing_else_are_left(tmp_path: Path) -> None:
    paths = write_report(full_report(), tmp_path / "new" / "folder")
    names = sorted(path.name for path in (tmp_path / "new" / "folder").iterdir())
    assert names == ["report.html", "report.json", "report.md"]
    assert {paths.html.name, paths.json.name, paths.markdown.name} == set(names)


def test_equal_reports_give_equal_bytes(tmp_path: Path) -> None:
    first, second = (write_report(full_report(), tmp_path / name) for name in "ab")
    for one, other in zip(
        (first.html, first.json, first.markdown),
        (second.html, second.json, second.markdown),
        strict=True,
    ):
        assert one.read_bytes() == other.read_bytes()


def test_writing_again_from_what_was_read_changes_nothing(tmp_path: Path) -> None:
    first = write_report(full_report(), tmp_path / "a")
    second = write_report(load_report(first.json), tmp_path / "b")
    assert first.json.read_bytes() == second.json.read_bytes()
    assert first.html.read_bytes() == second.html.read_bytes()


def test_a_report_of_another_format_is_refused(tmp_path: Path) -> None:
    paths = write_report(dataclasses.replace(full_report(), format=7), tmp_path)
    with pytest.raises(FindingError, match=r"report format 7, this version reads 1; run distill"):
        load_report(paths.json)


def test_what_is_no_report_is_refused(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text('{"title": "x"}')
    with pytest.raises(FindingError, match=r"report\.json does not hold a Report"):
        load_report(tmp_path / "report.json")


def test_no_name_from_data_becomes_markup_in_the_page(tmp_path: Path) -> None:
    shown = page_of(evil_report(), tmp_path)
    plain = page_of(full_report(), tmp_path)
    assert "script" not in shown.tags
    assert "a" not in shown.tags
    assert set(shown.tags) <= set(plain.tags) | {"li", "section"}
    assert not any(name.startswith("on") for name, _ in shown.attributes)
    # nothing was hidden either: the reader sees the name as it is
    assert shown.text.count('<script>alert("x")</script>') >= 8
    assert "\x1b" not in shown.text


def test_the_page_loads_and_runs_nothing(tmp_path: Path) -> None:
    shown = page_of(full_report(), tmp_path)
    assert not {"script", "link", "img", "iframe", "object", "form"} & set(shown.tags)
    assert not any(name in {"src", "href", "action"} for name, _ in shown.attributes)
    html = (tmp_path / "report.html").read_text()
    assert "default-src 'none'" in html
    assert "url(" not in html
    assert "@import" not in html


def test_page_and_markdown_hold_the_same_tables(tmp_path: Path) -> None:
    shown = page_of(full_report(), tmp_path)
    markdown = (tmp_path / "report.md").read_text()
    for cell in ("−23.3 (−27.8 to −18.8)", "nothing (vacuous)", "16,464", "80.4 %", "58.5×"):
        assert cell in shown.text
        assert cell in markdown
    assert shown.tags.count("table") == len(re.findall(r"^\|[:|-]+\|$", markdown, re.MULTILINE))


def test_every_markdown_row_has_as_many_cells_as_its_heading(tmp_path: Path) -> None:
    for name, report in (("plain", full_report()), ("evil", evil_report())):
        lines = write_report(report, tmp_path / name).markdown.read_text().splitlines()
        width = 0
        for line in lines:
            if line.startswith("|"):
                bars = len(re.findall(r"(?<!\\)\|", line))
                width = width or bars
                assert bars == width, line
            else:
                width = 0


def test_no_name_from_data_becomes_markup_in_markdown(tmp_path: Path) -> None:
    text = write_report(evil_report(), tmp_path).markdown.read_text()
    assert not re.search(r"<\w", text)
    assert not re.search(r"(?<!\\)`", text)
    assert not re.search(r"(?<!\\)\[", text)
    assert text.startswith("# &lt;script&gt;alert")


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("resnet50.a1_in1k", "resnet50.a1_in1k"),
        ("_x_", "\\_x\\_"),
        ("a*b*", "a\\*b\\*"),
        ("a|b", "a&#124;b"),
        ("<b>&amp;", "&lt;b&gt;&amp;amp;"),
        ("\\|", "\\\\&#124;"),
    ],
)
def test_markdown_signs_are_escaped(given: str, shown: str) -> None:
    assert escaped(given) == shown


@pytest.mark.parametrize(
    "make", [full_report, imported_report, smallest_report], ids=["full", "imported", "smallest"]
)
def test_reports_with_less_in_them_are_written_too(tmp_path: Path, make: object) -> None:
    assert callable(make)
    report = make()
    shown = page_of(report, tmp_path)
    table = compression_table(report)
    assert "full head" in shown.text
    assert "None" not in shown.text + table + (tmp_path / "report.md").read_text()
    assert ("imported features" in shown.text) == (not report.teacher)
    assert ("Students" in shown.words) == bool(report.students)


def test_a_report_without_any_head_is_written_too(tmp_path: Path) -> None:
    bare = dataclasses.replace(smallest_report(), heads=(), projected=(), classes=0)
    assert "How this was made" in page_of(bare, tmp_path).text
    assert compression_table(bare).startswith("Handwritten digits: imported features")


def test_a_failed_check_is_said_before_everything_else(tmp_path: Path) -> None:
    failed = dataclasses.replace(
        full_report(), projected=(projected(16, validation(128, failed=True)),)
    )
    shown = page_of(failed, tmp_path)
    told = "The map gaussian-k128-s0 failed its validation (scale: mean ratio 1.310, at most 1.06)"
    assert told in shown.text
    assert shown.text.index("Read this first") < shown.text.index("What this shows")
    assert "1 failed" in shown.text
    assert "WARNING: gaussian-k128-s0 failed its validation" in compression_table(failed)
    assert "Read this first" not in page_of(full_report(), tmp_path).text


def test_a_map_judged_for_show_only_does_not_warn(tmp_path: Path) -> None:
    found = validation(128, failed=True, diagnostic_only=True)
    report = dataclasses.replace(full_report(), projected=(projected(16, found),))
    shown = page_of(report, tmp_path)
    assert "Read this first" not in shown.text
    assert "shown only" in shown.text


def test_heads_that_stopped_early_and_skipped_inputs_warn(tmp_path: Path) -> None:
    report = dataclasses.replace(
        full_report(),
        heads=(head(1), dataclasses.replace(head(16), converged=False)),
        extracted=dataclasses.replace(
            full_report().extracted,
            splits=(ExtractedSplit(split="test", rows=3, skipped=("a.png, row 4",)),),
        ),
    )
    text = page_of(report, tmp_path).text
    assert "The head gaussian-k128-s0 stopped before it converged" in text
    assert "1 input of the test split could not be read, left out: a.png, row 4." in text


def test_a_number_stays_on_the_line_of_its_unit() -> None:
    assert together("69.2 % and k = 8, 402 k") == "69.2\xa0% and k\xa0=\xa08, 402\xa0k"
    assert together("1 ± 0.5 of the rest") == "1\xa0±\xa00.5 of the rest"


def test_the_terminal_table_fits_and_aligns() -> None:
    lines = compression_table(full_report()).splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[0] == (
        "Handwritten digits: timm/resnet50, 2,048 features, 10 classes, 360 test rows"
    )
    table = [line for line in lines[2:] if line and "parameters" not in line]
    assert len(table) == 1 + 7 + 3
    edge = table[0].index("acc. %") + len("acc. %")
    assert all(line[edge - 1] in "0123456789%" and line[edge] == " " for line in table)
    row = next(line for line in table if "k128" in line)
    assert row.split() == [
        "gaussian-k128-s0", "16", "128", "14.2", "96.7", "94.3-98.1", "-0.8", "-2.1", "to",
        "+0.5", "undecided",
    ]  # fmt: skip
    assert lines[-1] == "student: 402 k parameters, 58.5x fewer than the teacher's 23.5 M"


def test_a_student_that_is_no_smaller_is_not_called_so(tmp_path: Path) -> None:
    report = full_report()
    students = tuple(
        dataclasses.replace(one, parameters=one.teacher_parameters) for one in report.students
    )
    report = dataclasses.replace(report, students=students)
    told = compression_table(report).splitlines()[-1]
    assert told == "student: 23.5 M parameters, no fewer than the teacher's 23.5 M"
    write_report(report, tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "has 23.5 M parameters, no fewer than the teacher's 23.5 M, and gets" in text


def test_a_baseline_is_shown_without_numbers_of_a_map() -> None:
    lines = compression_table(full_report()).splitlines()
    (own,) = (line for line in lines if line.startswith("student   "))
    (labels,) = (line for line in lines if line.startswith("student, labels"))
    assert " 128 " in own
    assert " 128 " not in labels


def test_the_terminal_table_fits_whatever_the_names_are() -> None:
    long = dataclasses.replace(head(256), name="x" * 200, kind="y" * 200, dim_in=16384)
    report = dataclasses.replace(evil_report(), heads=(head(1), long))
    text = compression_table(report)
    assert max(map(len, text.splitlines())) <= 100
    assert "\x1b" not in text


def test_the_terminal_table_fits_whatever_the_figures_are() -> None:
    worst = dataclasses.replace(
        head(1), kind="gaussian", name="gaussian-k32768-s12", dim_in=65536, dim_out=32768,
        test=score(1.0), difference=difference(-1.0, 0.1),
    )  # fmt: skip
    text = compression_table(dataclasses.replace(full_report(), heads=(head(1), worst)))
    assert max(map(len, text.splitlines())) <= 100
    assert "-100.0" in text


def test_parity_above_the_classes_is_said_to_be_weak_evidence(tmp_path: Path) -> None:
    text = page_of(full_report(), tmp_path).text
    assert "5 of the 6 compressed configurations have k ≥ C − 1 = 9." in text
    assert "the informative rows are those below it: k = 8." in text
    wide = dataclasses.replace(full_report(), heads=full_report().heads[:3])
    text = page_of(wide, tmp_path).text
    assert "All compressed ones have k ≥ C − 1 = 9" in text
    assert "no configuration here lies below it" in text


def test_the_lemma_is_called_vacuous_where_it_is(tmp_path: Path) -> None:
    text = page_of(full_report(), tmp_path).text
    assert "it asks for k ≥ 342; at k = 128, 32, 8 it promises nothing at all" in text


def test_baselines_are_told_apart_only_where_intervals_do(tmp_path: Path) -> None:
    text = page_of(full_report(), tmp_path).text
    assert (
        "labels only 94.7 % (the subspace student is at +1.1 points; their intervals overlap"
        in text
    )
    clear = (student("subspace", 0.97), student("labels", 0.80))
    text = page_of(dataclasses.replace(full_report(), students=clear), tmp_path).text
    assert "at +17.0 points; their intervals do not overlap" in text
    alone = dataclasses.replace(full_report(), students=clear[:1])
    assert "distill train-student --baselines trains them" in page_of(alone, tmp_path).text


def test_prefixes_of_a_student_get_a_table_and_nobody_else_does(tmp_path: Path) -> None:
    assert "first numbers" not in page_of(full_report(), tmp_path / "without").text
    prefixes = (
        PrefixScore(dim_out=32, test=score(0.91)),
        PrefixScore(dim_out=64, test=score(0.935)),
    )
    report = full_report()
    several = tuple(dataclasses.replace(one, prefixes=prefixes) for one in report.students[:1])
    page = page_of(dataclasses.replace(report, students=several), tmp_path / "with")
    assert re.search(r"first numbers .* 32 91\.0 .* 64 93\.5", page.text)


def test_the_easy_data_note_is_told(tmp_path: Path) -> None:
    assert "About the data: digits is so easy" in page_of(full_report(), tmp_path).text
    assert "About the data" not in page_of(imported_report(), tmp_path).text


def test_several_seeds_get_a_table_of_their_spread(tmp_path: Path) -> None:
    heads = (head(1), head(16, seed=0, accuracy=0.90), head(16, seed=1, accuracy=0.94))
    report = dataclasses.replace(full_report(), heads=heads)
    text = page_of(report, tmp_path).text
    assert "92.0 2.83 90.0 94.0" in text
    assert "Each map was drawn once" not in text
    assert derive(report).spreads[0].seeds == 2
