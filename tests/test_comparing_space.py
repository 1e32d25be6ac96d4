"""A common coordinate system: constructed spaces, whose answers are known."""

import numpy as np
import pytest

from distill.comparing.space import Gallery, PluggedIn, crossed, plug_in

RNG = np.random.default_rng(0)
CENTRES = RNG.standard_normal((6, 8)).astype(np.float32) * 4


def rows_of(labels: np.ndarray, seed: int, noise: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    found: np.ndarray = CENTRES[labels] + noise * rng.standard_normal((len(labels), 8))
    return found.astype(np.float32)


LABELS = np.arange(120) % 6
TEACHER = Gallery(rows_of(LABELS, 1), np.arange(120), LABELS)
ASKED = np.arange(60) % 6
OWN = rows_of(ASKED, 2)


def asked(rows: np.ndarray, ids: np.ndarray | None = None) -> Gallery:
    return Gallery(rows, np.arange(500, 560) if ids is None else ids, ASKED)


def rotation() -> np.ndarray:
    found: np.ndarray = np.linalg.qr(np.random.default_rng(3).standard_normal((8, 8)))[0]
    return found.astype(np.float32)


def test_the_teacher_s_own_rows_find_all_their_neighbours() -> None:
    found = crossed(TEACHER, asked(OWN), OWN)
    assert found.recall == 1.0
    assert found.accuracy > 0.95


def test_a_student_near_the_teacher_finds_most_and_a_rotated_one_few() -> None:
    near = crossed(TEACHER, asked(OWN + rows_of(ASKED, 5, 0.3) - CENTRES[ASKED]), OWN)
    turned = crossed(TEACHER, asked(OWN @ rotation()), OWN)
    assert near.recall > 0.7
    assert near.accuracy > 0.95
    assert turned.recall < 0.4
    assert turned.accuracy < 0.6
    # the rotated student is as good by itself: only the space is another
    turned_gallery = Gallery(TEACHER.rows @ rotation(), TEACHER.ids, TEACHER.labels)
    alone = crossed(turned_gallery, asked(OWN @ rotation()), OWN @ rotation())
    assert alone.recall == 1.0
    assert alone.accuracy > 0.95


def test_recall_by_hand() -> None:
    line = Gallery(
        np.array([[0.0], [1.0], [2.0], [10.0], [11.0]], np.float32), np.arange(5),
        np.array([0, 0, 0, 1, 1]),
    )  # fmt: skip
    queries = Gallery(np.array([[9.0]], np.float32), np.array([7]), np.array([1]))
    own = np.array([[6.4]], np.float32)  # its true neighbours are 10 and 2, then 11 and 1
    found = crossed(line, queries, own, k=3)  # 10, 11, 2 are found of 10, 2, 11
    assert (found.recall, found.accuracy) == (1.0, 1.0)
    lower = Gallery(np.array([[1.0]], np.float32), np.array([7]), np.array([1]))
    found = crossed(line, lower, own, k=3)  # 1, 0, 2: of the three only 2 is right
    assert found.recall == pytest.approx(1 / 3)
    assert found.accuracy == 0.0


def test_an_example_is_not_its_own_neighbour() -> None:
    """Two students of the same examples: A's gallery, B's queries, shared ids."""
    rng = np.random.default_rng(8)
    first = rng.standard_normal((40, 8)).astype(np.float32)
    gallery = Gallery(first, np.arange(40), np.arange(40) % 2)
    found = crossed(gallery, gallery, first, k=1)
    assert found.recall == 1.0
    assert found.accuracy < 0.9  # with itself as neighbour it would be 1
    strangers = gallery._replace(ids=np.arange(100, 140))
    assert crossed(gallery, strangers, first, k=1).accuracy == 1.0


def test_a_gallery_too_small_is_refused() -> None:
    small = Gallery(OWN[:10], np.arange(10), ASKED[:10])
    assert crossed(small, asked(OWN), OWN).recall == 1.0
    with pytest.raises(ValueError, match="10 rows has no 10 neighbours"):
        crossed(small, asked(OWN, np.arange(60)), OWN)


def test_a_head_for_new_classes_fits_students_of_the_same_space_only() -> None:
    new = {"train": (90, 11), "validation": (30, 12), "test": (60, 13)}
    sets = {}
    for name, (rows, seed) in new.items():
        labels = np.arange(rows) % 3
        sets[name] = Gallery(rows_of(labels + 3, seed), np.arange(rows), labels)
    rng = np.random.default_rng(4)
    student = sets["test"].rows + 0.3 * rng.standard_normal((60, 8)).astype(np.float32)

    def plugged(other: np.ndarray) -> PluggedIn:
        parts = sets["train"], sets["validation"], sets["test"]
        return plug_in(*parts, other, classes=3, l2=(1e-3, 1e-1))

    near, elsewhere = plugged(student), plugged(student @ rotation())
    assert near.own == elsewhere.own > 0.95
    assert near.other > 0.9
    assert elsewhere.other < 0.7
