"""What is measured of a network's answers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier

from students import inference
from students.inference import knn_accuracy
from tests.training_examples import vote_of_neighbours


@given(
    rows=st.integers(1, 40),
    classes=st.integers(1, 5),
    neighbours=st.integers(1, 12),
    far=st.sampled_from([0.0, 1e3]),
    seed=st.integers(0, 999),
)
def test_it_is_the_vote_of_the_nearest_others(
    rows: int, classes: int, neighbours: int, far: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    features = (rng.standard_normal((rows, 3)) + far).astype(np.float32)
    labels = rng.integers(0, classes, rows)
    found = knn_accuracy(features, labels, neighbours=neighbours)
    assert found == pytest.approx(vote_of_neighbours(features, labels, neighbours))


def test_it_is_scikit_learns_vote_with_each_row_left_out() -> None:
    """Two classes and an odd number of votes: no ties, of which scikit-learn takes the lowest."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 150)
    rows = (rng.standard_normal((150, 6)) + 0.5 * labels[:, None]).astype(np.float32)
    right = 0
    for index in range(150):
        others = np.arange(150) != index
        fitted = KNeighborsClassifier(7, algorithm="brute").fit(rows[others], labels[others])
        right += int(fitted.predict(rows[[index]])[0] == labels[index])
    assert 0.5 < right / 150 < 1
    assert knn_accuracy(rows, labels, neighbours=7) == pytest.approx(right / 150)


def test_ten_vote_unless_said_and_of_equal_votes_the_nearer_wins() -> None:
    """On a line: the row at 0 sees 5 ones and 5 twos; the row at 1 comes first."""
    rows = np.array([0, 1, -2, 3, -4, 5, -6, 7, -8, 9, -10, 11], np.float32)[:, None]
    labels = np.array([1, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 2])
    assert vote_of_neighbours(rows, labels, 10) == knn_accuracy(rows, labels)
    rows[1:] = -rows[1:] * 1.1
    rows[2] = 0.5
    assert vote_of_neighbours(rows, labels, 10) == knn_accuracy(rows, labels)
    first = np.zeros((3, 1), np.float32), np.array([4, 4, 4])
    assert knn_accuracy(*first) == 1.0  # duplicates are neighbours


def test_a_row_alone_has_no_neighbour() -> None:
    assert knn_accuracy(np.zeros((1, 2), np.float32), np.array([0])) == 0.0


def test_the_first_rows_count_where_there_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    assert inference.KNN_ROWS == 2000
    monkeypatch.setattr(inference, "KNN_ROWS", 30)
    rng = np.random.default_rng(2)
    rows, labels = rng.standard_normal((90, 4)).astype(np.float32), rng.integers(0, 2, 90)
    assert knn_accuracy(rows, labels) == knn_accuracy(rows[:30], labels[:30])
    assert knn_accuracy(rows[:30], labels[:30]) == pytest.approx(
        vote_of_neighbours(rows[:30], labels[:30], 10)
    )
