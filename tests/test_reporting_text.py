import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.findings import Difference, Interval
from distill.reporting import text


def test_names_become_one_visible_line() -> None:
    assert text.plain("a\nb\t c") == "a b c"
    assert text.plain("\x1b[31mred\x00") == "\ufffd[31mred\ufffd"
    assert text.plain("abc\u202ecba") == "abccba"
    assert text.plain("cut \ud800 here") == "cut \ufffd here"
    assert text.plain("ein Häuschen 猫 👩‍🚀") == "ein Häuschen 猫 👩‍🚀"


def test_a_teacher_in_a_folder_goes_by_the_folders_name() -> None:
    assert text.teacher("hf//home/me/models/minilm") == "hf/minilm"
    assert text.teacher("hf/~/models/minilm/") == "hf/minilm"
    assert text.teacher("hf/sentence-transformers/minilm") == "hf/sentence-transformers/minilm"
    assert text.teacher("timm/resnet50.a1_in1k") == "timm/resnet50.a1_in1k"
    assert text.teacher("imported from x.npy") == "imported from x.npy"
    assert text.teacher("") == "imported features"


def test_long_names_are_cut() -> None:
    assert text.plain("abcdef", most=6) == "abcdef"
    assert text.plain("abcdefg", most=6) == "abcde…"


@given(st.text(st.characters(exclude_categories=())))
def test_any_name_can_be_written_as_utf_8_and_is_one_line(name: str) -> None:
    shown = text.plain(name)
    shown.encode("utf-8")
    assert len(shown.splitlines()) <= 1
    assert text.plain(shown) == shown


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (0, "0"), (7, "7"), (97.04, "97"), (999.4, "999"), (1000, "1 k"), (402_346, "402 k"),
        (23_528_522, "23.5 M"), (999_999, "1 M"), (4_089_184_256, "4.09 G"),
    ],
)  # fmt: skip
def test_large_numbers_are_rounded_to_three_figures(number: float, shown: str) -> None:
    assert text.rounded(number) == shown


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (0.8889, "0.889"), (3.5556, "3.56"), (14.22, "14.2"), (113.8, "114"), (9.999, "10"),
        (100, "100"), (2.0, "2"), (0.9999, "1"), (1234.5, "1,234"), (-2.5, "-2.5"),
        (0.00001, "1.0e-05"),
    ],
)  # fmt: skip
def test_three_figures(number: float, shown: str) -> None:
    assert text.three_figures(number) == shown


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (0, "0 B"), (16, "16 B"), (999, "999 B"), (1000, "1 kB"), (8192, "8.19 kB"),
        (8_388_608, "8.39 MB"), (94_114_988, "94.1 MB"), (2e12, "2 TB"),
    ],
)  # fmt: skip
def test_sizes_have_units(number: float, shown: str) -> None:
    assert text.size(number) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (-0.0123, "−1.2"), (0.004, "+0.4"), (0.0, "0.0"), (-0.0004, "0.0"), (0.0004, "0.0"),
        (-0.0006, "−0.1"),
    ],
)  # fmt: skip
def test_points_are_signed_and_zero_is_not(value: float, shown: str) -> None:
    assert text.points(value) == shown


def test_differences_show_their_interval() -> None:
    found = Difference(against="full", value=-0.012, interval=Interval(low=-0.025, high=0.001))
    assert text.difference(found) == "−1.2 (−2.5 to +0.1)"
    assert text.told_difference(found) == "−1.2 points (95 %: −2.5 to +0.1)"
    assert text.difference(None) == "—"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(2e-5, "20 µs"), (0.00123, "1.23 ms"), (0.226, "226 ms"), (41, "41 s"), (150, "2.5 min")],
)
def test_durations_have_units(seconds: float, shown: str) -> None:
    assert text.duration(seconds) == shown
