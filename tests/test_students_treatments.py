"""Targets drawn towards class means and averaged over views, by hand."""

import numpy as np
import pytest

from students import StudentError, averaged_over_views, class_means, label_shrunk, top_logits

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


def test_the_highest_chances_are_kept_and_the_others_share_the_rest() -> None:
    chances = np.array([[0.5, 0.1, 0.3, 0.06, 0.04], [0.1, 0.6, 0.1, 0.1, 0.1]])
    logits = (np.log(chances) + 7.0).astype(np.float32)  # what is added to a row changes nothing
    found = np.exp(top_logits(logits, 2))
    rest = 0.2 / 3
    np.testing.assert_allclose(
        found, [[0.5, rest, 0.3, rest, rest], [0.1, 0.6, 0.1, 0.1, 0.1]], rtol=1e-5
    )
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.sum(axis=1), 1.0, rtol=1e-6)
    np.testing.assert_allclose(np.exp(top_logits(logits, 9)), chances, rtol=1e-5)
    with pytest.raises(StudentError, match="at least 1 of a row's logits is kept, got 0"):
        top_logits(logits, 0)


def test_a_sure_row_keeps_finite_logarithms() -> None:
    found = top_logits(np.array([[800.0, 0.0, -800.0, 3.0]], dtype=np.float32), 1)
    assert np.isfinite(found).all()
    assert found[0, 0] == 0.0
    assert found[0, 1] == found[0, 2] == found[0, 3] < -700
