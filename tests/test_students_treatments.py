"""Targets drawn towards class means and averaged over views, by hand."""

import numpy as np
import pytest

from students import StudentError, averaged_over_views, class_means, label_shrunk

ROWS = np.array([[1.0, 0.0], [3.0, 2.0], [5.0, 5.0], [9.0, 9.0]], dtype=np.float32)
LABELS = np.array([2, 2, 0, -1])


def test_class_means_leave_out_rows_without_a_label() -> None:
    blocks = [(ROWS[:1], LABELS[:1]), (ROWS[1:], LABELS[1:])]
    found = class_means(blocks, classes=3)
    np.testing.assert_allclose(found, [[5.0, 5.0], [0.0, 0.0], [2.0, 1.0]])


def test_targets_are_drawn_to_their_class_by_the_share_that_is_said() -> None:
    means = np.array([[6.0, 6.0], [0.0, 0.0], [2.0, 1.0]])
    found = label_shrunk(ROWS, LABELS, means, alpha=0.25)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [[1.25, 0.25], [2.75, 1.75], [5.25, 5.25], [9.0, 9.0]])
    np.testing.assert_array_equal(label_shrunk(ROWS, LABELS, means, alpha=0.0), ROWS)
    np.testing.assert_array_equal(label_shrunk(ROWS[:3], LABELS[:3], means, alpha=1.0)[2], means[0])


def test_views_of_an_example_stand_together_and_become_their_mean() -> None:
    found = averaged_over_views(ROWS, 2)
    np.testing.assert_allclose(found, [[2.0, 1.0], [7.0, 7.0]])
    np.testing.assert_array_equal(averaged_over_views(ROWS, 1), ROWS)


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(StudentError, match="4 rows are not 3 views each"):
        averaged_over_views(ROWS, 3)
    with pytest.raises(StudentError, match="4 rows are not 0 views each"):
        averaged_over_views(ROWS, 0)
    with pytest.raises(StudentError, match=r"a share between 0 and 1, got 1\.5"):
        label_shrunk(ROWS, LABELS, np.zeros((3, 2)), alpha=1.5)
    with pytest.raises(StudentError, match="label 2, but there are 2 classes"):
        class_means([(ROWS, LABELS)], classes=2)
    with pytest.raises(StudentError, match="no class means"):
        class_means([], classes=2)
