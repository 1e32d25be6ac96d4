import itertools
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.reporting import svg


def test_text_and_attributes_are_escaped() -> None:
    drawn = svg.drawing(10, 10, 'a "label" <b>', svg.text(1, 2, "<script>&\x00"))
    root = ElementTree.fromstring(drawn)
    assert root.attrib["aria-label"] == 'a "label" <b>'
    assert root[0].text == "<script>&\ufffd"
    assert "<script" not in drawn


@pytest.mark.parametrize(
    ("number", "shown"), [(1.0, "1"), (0.126, "0.13"), (-0.001, "0"), (12.5, "12.5"), (100, "100")]
)
def test_coordinates_have_two_decimals(number: float, shown: str) -> None:
    assert svg.coordinate(number) == shown


def test_a_linear_scale_by_hand() -> None:
    scale = svg.Scale(10, 20, 100, 0)  # upside down, as accuracies are drawn
    assert (scale(10), scale(15), scale(20)) == (100, 50, 0)
    assert (scale(5), scale(25)) == (100, 0)  # what lies outside is drawn at the edge


def test_a_logarithmic_scale_puts_equal_factors_at_equal_distances() -> None:
    scale = svg.Scale(1, 256, 0, 80, log=True)
    assert [round(scale(2.0**at), 9) for at in range(0, 9, 2)] == [0, 20, 40, 60, 80]
    assert scale(0.0) == 0


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 3, [0, 1, 2, 3]),
        (68.3, 100, [70, 80, 90, 100]),
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (97.2, 98.9, [97.5, 98, 98.5]),
    ],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert svg.ticks(low, high, 5) == expected


@given(low=st.floats(0, 99), span=st.floats(0.5, 100))
def test_ticks_lie_inside_and_are_neither_few_nor_many(low: float, span: float) -> None:
    found = svg.ticks(low, low + span, 5)
    assert 2 <= len(found) <= 7
    assert all(low - 1e-6 <= tick <= low + span + 1e-6 for tick in found)
    assert all(a < b for a, b in itertools.pairwise(found))


def test_ticks_of_a_logarithmic_axis() -> None:
    assert svg.log_ticks(300_000, 5_000_000) == [500_000, 1_000_000, 2_000_000, 5_000_000]
    assert svg.log_ticks(11.5, 18) == [12, 14, 16, 18]  # of 1, 2 and 5 times 10 there is none
    assert svg.log_ticks(0.128, 0.23) == [0.15, 0.2]
    assert svg.log_ticks(0.09, 0.23) == [0.1, 0.2]
    assert svg.log_ticks(10, 1e7) == [10.0**power for power in range(1, 8)]


def test_a_label_takes_the_first_free_spot_and_the_next_the_second() -> None:
    room = svg.Box(0, 0, 200, 100)
    taken: list[svg.Box] = []
    spots = [(20.0, 50.0, "start"), (20.0, 80.0, "start")]
    assert svg.place_label("name", spots, taken, room) == spots[0]
    assert svg.place_label("name", spots, taken, room) == spots[1]
    assert svg.place_label("name", spots, taken, room) is None


def test_no_label_leaves_the_drawing() -> None:
    room = svg.Box(0, 0, 60, 100)
    assert svg.place_label("a long name here", [(20.0, 50.0, "start")], [], room) is None
    assert svg.place_label("ab", [(2.0, 50.0, "end"), (2.0, 50.0, "start")], [], room) == (
        2.0,
        50.0,
        "start",
    )
