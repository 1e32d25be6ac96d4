"""What the drawings with an accuracy axis share: the frame, the axis, whiskers, wording."""

from collections.abc import Sequence

from distill.findings import Score
from distill.reporting.svg import Scale, line, text, ticks
from distill.reporting.text import percent, percent_interval, three_figures

WIDTH, HEIGHT = 860.0, 430.0
LEFT, RIGHT, BOTTOM = 58.0, 836.0, 366.0


def accuracy_scale(scores: Sequence[Score], top: float, bottom: float = BOTTOM) -> Scale:
    """Fit all intervals, with some room, and never leave 0 to 1."""
    low = min(score.interval.low for score in scores)
    high = max(score.interval.high for score in scores)
    room = max(0.05 * (high - low), 0.01)
    return Scale(max(low - room, 0.0), min(high + room, 1.0), bottom, top)


def accuracy_grid(y: Scale) -> str:
    """Draw lines at round percentages, and name them."""
    marks = []
    for value in ticks(100 * y.low, 100 * y.high, 6):
        at = y(value / 100)
        marks.append(line(LEFT, at, RIGHT, at, "grid"))
        marks.append(text(LEFT - 9, at + 4, three_figures(value), "tick", "end"))
    marks.append(text(LEFT - 44, y.stop - 30, "accuracy, %", "axis"))
    return "".join(marks)


def told_score(score: Score) -> str:
    """97.5 % (95.3–98.7)."""
    return f"{percent(score.accuracy)} % ({percent_interval(score.interval)})"


def whisker(at: float, score: Score, y: Scale, color: str) -> str:
    """Draw the 95 % interval of an accuracy."""
    low, high = y(score.interval.low), y(score.interval.high)
    ends = "".join(line(at - 3.5, end, at + 3.5, end, f"whisker {color}") for end in (low, high))
    return line(at, low, at, high, f"whisker {color}") + ends
