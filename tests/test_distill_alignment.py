"""From one teacher's features to another's: what is found, and the identity where nothing is."""

import numpy as np
import pytest

from distill.alignment import Alignment, align, explained


def drawn(rows: int, dim: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, dim)).astype(np.float32)


def test_an_affine_relation_is_found() -> None:
    rng = np.random.default_rng(0)
    matrix = np.eye(6) + 0.3 * rng.standard_normal((6, 6))
    shift = rng.standard_normal(6)
    given, unseen = drawn(200, 6, 1), drawn(50, 6, 2)
    found, score = align(
        given,
        (given @ matrix + shift).astype(np.float32),
        unseen=(unseen, (unseen @ matrix + shift).astype(np.float32)),
    )
    np.testing.assert_allclose(found.matrix, matrix, atol=1e-3)
    np.testing.assert_allclose(found.shift, shift, atol=1e-3)
    assert score > 0.9999


def test_rows_that_are_the_same_are_left_as_they_are() -> None:
    given, unseen = drawn(30, 4, 1), drawn(10, 4, 2)
    found, score = align(given, given, unseen=(unseen, unseen))
    np.testing.assert_allclose(found(unseen), unseen, atol=1e-5)
    assert score == pytest.approx(1)


def test_fewer_rows_than_dimensions_leave_the_rest_as_it_is() -> None:
    """Three rows say nothing of the other directions: there the map is the identity."""
    given = np.zeros((3, 8), np.float32)
    given[:, :2] = [[1, 0], [0, 1], [-1, -1]]
    wanted = given.copy()
    wanted[:, 0] *= 2
    unseen = drawn(40, 8, 3)
    doubled = unseen.copy()
    doubled[:, 0] *= 2
    found, _ = align(given, wanted, unseen=(unseen, doubled))
    expected = np.eye(8)
    expected[0, 0] = 2
    np.testing.assert_allclose(found.matrix, expected, atol=1e-3)


def test_where_the_seen_rows_mislead_the_penalty_is_infinite() -> None:
    given, unseen = drawn(20, 15, 1), drawn(300, 15, 2)
    noise = drawn(20, 15, 3)
    found, score = align(given, given + noise, unseen=(unseen, unseen + 1))
    np.testing.assert_allclose(found.matrix, np.eye(15), atol=1e-6)
    np.testing.assert_allclose(found.shift, noise.mean(axis=0), atol=1e-6)
    assert score == explained(found(unseen), unseen + 1)


def test_it_is_the_ridge_of_what_is_left() -> None:
    """Against the plain normal equations, at whatever penalty was chosen."""
    given, wanted = drawn(25, 5, 1), drawn(25, 5, 2)
    found, _ = align(given, wanted, unseen=(given, wanted))
    x, y = given - given.mean(0), wanted - wanted.mean(0)
    scale = np.mean(np.linalg.eigvalsh(x.T @ x))
    solved = np.eye(5) + np.linalg.solve(x.T @ x + 1e-4 * scale * np.eye(5), x.T @ (y - x))
    np.testing.assert_allclose(found.matrix, solved, atol=1e-4)
    mean = given.mean(0) @ found.matrix + found.shift
    np.testing.assert_allclose(mean, wanted.mean(0), atol=1e-5)


def test_r_squared_by_hand() -> None:
    wanted = np.array([[0.0], [2.0]], np.float32)  # its mean leaves 2
    assert explained(wanted, wanted) == 1
    assert explained(np.array([[0.0], [1.0]], np.float32), wanted) == 0.5
    assert explained(np.array([[1.0], [1.0]], np.float32), wanted) == 0
    assert explained(np.array([[2.0], [0.0]], np.float32), wanted) == -3


def test_rows_that_do_not_vary() -> None:
    same = np.ones((4, 2), np.float32)
    found, score = align(same, same + 1, unseen=(same, same + 1))
    np.testing.assert_allclose(found(same), same + 1)
    assert score == 1
    assert isinstance(found, Alignment)
