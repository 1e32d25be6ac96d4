"""The cross-entropy of a head and its gradient, against plain loops, on threads and devices."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from students import HeadError
from students.cross_entropy import SHARES, _block, _blocks, cross_entropy
from tests.blas_threads import blas_threads

Answer = tuple[float, np.ndarray, np.ndarray]


def plain(rows: np.ndarray, targets: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> Answer:
    """Row by row in float64: -log p of the right class, and (p - 1 of the right class) xᵀ."""
    loss, by_weight, by_bias = 0.0, np.zeros(weight.shape), np.zeros(bias.shape)
    for row, target in zip(rows.astype(np.float64), targets, strict=True):
        logits = weight @ row + bias
        chances = np.exp(logits - logits.max())
        loss += np.log(chances.sum()) + logits.max() - logits[target]
        chances /= chances.sum()
        chances[target] -= 1
        by_weight += np.outer(chances, row)
        by_bias += chances
    return loss / len(rows), by_weight / len(rows), by_bias / len(rows)


def drawn(seed: int, rows: int = 50, dim: int = 6, classes: int = 5) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    return (
        rng.standard_normal((rows, dim), dtype=np.float32),
        np.append(rng.integers(0, classes, rows - 1), classes - 1),
        rng.standard_normal((classes, dim)),
        rng.standard_normal(classes),
    )


def asked(data: tuple[np.ndarray, ...], device: str = "cpu") -> Answer:
    rows, targets, weight, bias = data
    with cross_entropy(rows, targets, device=device) as losses:
        return losses(weight, bias)


def assert_alike(found: Answer, expected: Answer, tolerance: float = 1e-6) -> None:
    for i in range(3):
        np.testing.assert_allclose(found[i], expected[i], atol=tolerance, rtol=tolerance)


def test_two_rows_by_hand() -> None:
    # logits (1, 0) and (0, 2): losses log(1 + 1/e) for class 0 and log(1 + e²) for class 0
    rows = np.array([[1.0], [-2.0]], np.float32)
    weight, bias = np.array([[1.0], [-1.0]]) / 2, np.array([0.5, 0.5])
    loss, by_weight, by_bias = asked((rows, np.array([0, 1]), weight, bias))
    q1, q2 = 1 / (1 + np.e), 1 / (1 + np.e**2)  # chance of the wrong class
    assert loss == pytest.approx((np.log(1 + 1 / np.e) + np.log(1 + np.e**-2)) / 2)
    np.testing.assert_allclose(by_weight, np.array([[-q1 - 2 * q2], [q1 + 2 * q2]]) / 2, rtol=1e-6)
    np.testing.assert_allclose(by_bias, np.array([q2 - q1, q1 - q2]) / 2, rtol=1e-6)


@pytest.mark.parametrize("device", ["cpu", "cpu:0"])  # the second one is torch's
@given(seed=st.integers(0, 999), rows=st.integers(1, 40), classes=st.integers(2, 9))
def test_it_agrees_with_plain_loops(device: str, seed: int, rows: int, classes: int) -> None:
    data = drawn(seed, rows, 3, classes)
    assert_alike(asked(data, device), plain(*data))


@given(seed=st.integers(0, 999), rows=st.integers(1, 40), classes=st.integers(2, 9))
def test_the_answer_at_zero_agrees_with_plain_loops(seed: int, rows: int, classes: int) -> None:
    features, targets, weight, bias = drawn(seed, rows, 3, classes)
    data = features, targets, 0 * weight, 0 * bias
    assert_alike(asked(data), plain(*data))


@pytest.mark.parametrize("device", ["cpu", "cpu:0"])
def test_blocks_that_do_not_divide_the_rows_add_up(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("students.cross_entropy.LOGITS", 37)
    monkeypatch.setattr("students.cross_entropy.DEVICE_LOGITS", 37)
    data = drawn(0, rows=53)
    assert_alike(asked(data, device), plain(*data))


@pytest.mark.parametrize("device", ["cpu", "cpu:0"])
def test_logits_of_a_thousand_do_not_overflow(device: str) -> None:
    rows, targets, weight, bias = drawn(1)
    data = rows, targets, weight * 1000, bias
    loss, by_weight, by_bias = asked(data, device)
    assert np.isfinite(loss)
    assert np.isfinite(by_weight).all()
    # the loss is a sum of differences of float32 logits
    assert loss == pytest.approx(plain(*data)[0], rel=1e-5)
    np.testing.assert_allclose(by_bias.sum(), 0, atol=1e-6)


def test_the_number_of_threads_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("students.cross_entropy.LOGITS", 500)
    data = drawn(2, rows=999)
    answers = []
    for threads in (1, 2, 3):
        with threadpool_limits(threads, user_api="blas"):
            answers.append(asked(data))
    for loss, by_weight, by_bias in answers[1:]:
        assert loss == answers[0][0]
        assert by_weight.tobytes() == answers[0][1].tobytes()
        assert by_bias.tobytes() == answers[0][2].tobytes()


@pytest.mark.parametrize("device", ["cpu", "cpu:0"])
def test_losses_of_rows_that_are_far_from_the_boundary_keep_their_digits(device: str) -> None:
    # both rows lose log(1 + exp(-20)), about 2e-9; in float32 1 + 2e-9 is 1
    rows, weight = np.array([[20.0], [-20.0]], np.float32), np.array([[0.5], [-0.5]])
    loss, by_weight, _ = asked((rows, np.array([0, 1]), weight, np.zeros(2)), device)
    assert loss == pytest.approx(np.log1p(np.exp(-20)), rel=1e-5)
    np.testing.assert_allclose(by_weight[0], -20 / (1 + np.exp(20)), rtol=1e-5)


def test_blocks_run_side_by_side_with_one_thread_of_blas_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = []

    def block(rows: np.ndarray, targets: np.ndarray, *head: np.ndarray) -> Answer:
        seen.extend(blas_threads())
        return _block(rows, targets, *head)

    monkeypatch.setattr("students.cross_entropy._block", block)
    with threadpool_limits(2, user_api="blas"):
        asked(drawn(3))
    assert set(seen) == {1}


def test_blas_may_use_as_many_threads_as_before() -> None:
    with threadpool_limits(2, user_api="blas"):
        before = blas_threads()
        asked(drawn(3))
        assert blas_threads() == before


@given(rows=st.integers(1, 5000), classes=st.integers(2, 2000))
def test_blocks_hold_every_row_once_and_are_shared_out_evenly(rows: int, classes: int) -> None:
    blocks = _blocks(rows, classes=classes)
    sizes = np.array([block.stop - block.start for block in blocks])
    assert [blocks[0].start, blocks[-1].stop] == [0, rows]
    assert all(a.stop == b.start for a, b in pairwise(blocks))
    assert sizes.min() >= 1
    assert np.ptp(sizes) <= 1
    assert len(blocks) in {1, rows} or len(blocks) % SHARES == 0


def test_an_answer_is_remembered_until_another_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows, targets, weight, bias = drawn(4)
    with cross_entropy(rows, targets, device="cpu") as losses:
        first = losses(weight, bias)
        expected = first[1].copy()
        first[1][:] = 0  # what the caller does to it is the caller's
        np.testing.assert_array_equal(losses(weight, bias)[1], expected)
        weight[0, 0] += 1
        assert np.abs(losses(weight, bias)[1] - expected).max() > 1e-3
        weight[0, 0] -= 1
        monkeypatch.setattr("students.cross_entropy._block", None)
        with pytest.raises(TypeError):
            losses(weight, bias)


def test_the_last_answer_is_not_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, targets, weight, bias = drawn(5)
    with cross_entropy(rows, targets, device="cpu") as losses:
        first = losses(weight, bias)
        monkeypatch.setattr("students.cross_entropy._block", None)
        assert_alike(losses(weight.copy(), bias.copy()), first, 0)


@pytest.mark.parametrize("device", ["cuda:99", "toaster"])
def test_a_device_that_is_not_there_is_refused(device: str) -> None:
    with pytest.raises(HeadError) as caught:
        asked(drawn(6), device)
    assert str(caught.value).startswith(f"rows cannot be put on device {device!r} (")
    assert str(caught.value).endswith("); use 'cpu'")
    assert "\n" not in str(caught.value)


@pytest.mark.gpu
def test_a_gpu_agrees_with_the_cpu() -> None:
    data = drawn(7, rows=20_000, dim=300, classes=70)
    assert_alike(asked(data, "cuda"), asked(data), 1e-5)
