"""The Hadamard map: the transform by its definition, the theorem, and no matrix on the way."""

import hashlib
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from sklearn.exceptions import NotFittedError

from projections import ProjectionError, expected_ratio_std, hadamard
from projections.bound import hadamard_ratio_std
from projections.hadamard import HadamardProjection, draw_signs_and_kept, padded_dim
from projections.normal import stream

ROOT = Path(__file__).resolve().parents[1]
MIB = 1 << 20
FLOAT32 = float(np.finfo(np.float32).eps)


def made(dim_in: int, dim_out: int, seed: int = 0) -> HadamardProjection:
    return HadamardProjection(dim_out, seed=seed).fit_width(dim_in)


def defined(projection: HadamardProjection) -> np.ndarray:
    """(-1)^(common bits of i and j), entry by entry, signed and scaled."""
    entries = [
        [sign * (-1) ** (i & int(j)).bit_count() for j in projection.kept_]
        for i, sign in enumerate(projection.signs_)
    ]
    matrix: np.ndarray = np.array(entries) / np.sqrt(projection.dim_out)
    return matrix


def test_signs_and_coordinates_of_seed_zero_have_not_changed() -> None:
    signs, kept = draw_signs_and_kept(6, 3, 0)
    np.testing.assert_array_equal(signs, [1, -1, -1, 1, -1, -1])
    np.testing.assert_array_equal(kept, [1, 3, 7])


def test_by_hand() -> None:
    projection = made(3, 2)
    projection.signs_ = np.array([1, -1, 1], dtype=np.int8)
    projection.kept_ = np.array([1, 2])
    # H of four: + + + + / + - + - / + + - - / + - - +, of which three rows and columns 1 and 2
    rows = np.array([[1.0, 2.0, 4.0]])
    expected = np.array([[1 + 2 + 4, 1 - 2 - 4]]) / np.sqrt(2)  # from 1, -2 and 4
    np.testing.assert_allclose(projection.transform(rows), expected, rtol=1e-7)


@pytest.mark.parametrize(
    ("dim_in", "padded"), [(1, 1), (2, 2), (3, 4), (4, 4), (5, 8), (384, 512), (4097, 8192)]
)
def test_widths_are_padded_to_a_power_of_two(dim_in: int, padded: int) -> None:
    assert padded_dim(dim_in) == padded


def test_signs_and_coordinates_are_read_off_the_stream() -> None:
    signs, kept = draw_signs_and_kept(37, 20, 5)
    words = [int(word) for word in stream("hadamard 1", 37, 20, 5).random_raw(37 + 64)]
    assert signs.tolist() == [-1 if word >= 2**63 else 1 for word in words[:37]]
    smallest = sorted(words[37:])[:20]
    assert kept.tolist() == [j for j in range(64) if words[37 + j] in smallest]


@given(
    dim_in=st.integers(1, 140),
    share=st.floats(0, 1),
    rows=st.integers(1, 9),
    block=st.sampled_from([1, 300, 1 << 18]),
    dtype=st.sampled_from(["float32", "float64"]),
)
def test_it_is_the_product_with_the_matrix_by_definition(
    dim_in: int, share: float, rows: int, block: int, dtype: str
) -> None:
    projection = made(dim_in, max(1, round(share * dim_in)), seed=rows)
    matrix = defined(projection)
    np.testing.assert_allclose(projection.matrix, matrix, rtol=1e-7)
    X = np.random.default_rng(rows).standard_normal((rows, dim_in)).astype(dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hadamard, "BLOCK", block)
        found = projection.transform(X)
        turned = projection.transform(np.asfortranarray(X))
    assert found.dtype == dtype
    np.testing.assert_array_equal(turned, found)
    exact = X.astype(np.float64) @ projection.matrix.astype(np.float64)
    tolerance = 8 * np.finfo(dtype).eps * np.linalg.norm(X, axis=1).max()
    np.testing.assert_allclose(found, exact, rtol=0, atol=tolerance)


@pytest.mark.parametrize("half", [0, 32])
def test_a_half_without_kept_coordinates_is_none_of_them(half: int) -> None:
    maps = [made(33, 3, seed) for seed in range(100)]
    projection = next(p for p in maps if set(p.kept_ // 32 * 32) == {half})
    X = np.random.default_rng(0).standard_normal((5, 33))
    np.testing.assert_allclose(projection.transform(X), X @ projection.matrix, atol=1e-12)


@pytest.mark.parametrize("dims", [(1, 1), (2, 1), (64, 64), (100, 37), (513, 200), (2048, 300)])
def test_the_matrix_is_made_of_scipys(dims: tuple[int, int]) -> None:
    projection = made(*dims)
    whole = scipy.linalg.hadamard(padded_dim(dims[0]))
    expected = projection.signs_[:, None] * whole[: dims[0], projection.kept_]
    np.testing.assert_array_equal(projection.matrix, expected * np.float32(dims[1] ** -0.5))


@pytest.mark.parametrize("dim", [1, 2, 32, 512])
def test_all_of_a_power_of_two_kept_is_a_rotation(dim: int) -> None:
    X = np.random.default_rng(0).standard_normal((20, dim))
    mapped = made(dim, dim).transform(X)
    np.testing.assert_allclose(mapped @ mapped.T, X @ X.T, rtol=1e-6, atol=1e-6 * dim)


def check_is_a_fair_draw(draw: Callable[[int], tuple[np.ndarray, np.ndarray]]) -> None:
    """Of 10 columns in 16, 5 kept: each coordinate as often, no pair more, signs independent.

    Deviations are compared with five times what independent draws give.
    """
    drawn = [draw(seed) for seed in range(2000)]
    signs = np.array([signs for signs, _ in drawn], dtype=np.float64)
    kept = np.array([kept for _, kept in drawn])
    assert all(len(set(row)) == 5 for row in kept.tolist())
    chosen = np.zeros((2000, 16))
    np.put_along_axis(chosen, kept, 1.0, axis=1)
    spread = 5 / np.sqrt(2000)
    assert np.abs(chosen.mean(axis=0) - 5 / 16).max() < spread * np.sqrt(5 / 16 * 11 / 16)
    pairs = (chosen.T @ chosen / 2000)[np.triu_indices(16, 1)]
    both = 5 / 16 * 4 / 15
    assert np.abs(pairs - both).max() < spread * np.sqrt(both * (1 - both))
    moments = np.vstack([signs.mean(axis=0), (signs.T @ signs / 2000 - np.eye(10))])
    assert np.abs(moments).max() < spread


def fair(seed: int) -> tuple[np.ndarray, np.ndarray]:
    return draw_signs_and_kept(10, 5, seed)


def test_signs_and_coordinates_are_drawn_fairly() -> None:
    check_is_a_fair_draw(fair)


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(lambda seed: (fair(seed)[0], np.arange(5)), id="first"),
        pytest.param(lambda seed: (fair(seed)[0], fair(seed)[1] // 2 * 2), id="twice"),
        pytest.param(lambda seed: (fair(seed)[0], (np.arange(5) * 3 + seed) % 16), id="regular"),
        pytest.param(lambda seed: (np.abs(fair(seed)[0]), fair(seed)[1]), id="no-sign"),
        pytest.param(lambda seed: (fair(seed)[0][[0] * 10], fair(seed)[1]), id="one-sign"),
    ],
)
def test_the_fairness_check_can_fail(broken: Callable[..., Any]) -> None:
    with pytest.raises(AssertionError):
        check_is_a_fair_draw(broken)


DIM_IN, DIM_OUT, MAPS = 48, 24, 600
RNG = np.random.default_rng(0)
# one entry, which no map changes; two; all of one size; all
DIRECTIONS = np.stack(
    [np.arange(48) == 3, np.arange(48) % 24 == 5, np.ones(48), RNG.standard_normal(48)]
).astype(np.float64)


def check_keeps_squared_lengths(transform: Callable[[int, np.ndarray], np.ndarray]) -> None:
    """Mean and spread of squared length after over before, direction by direction.

    A mean of n ratios is known to std / sqrt(n), a spread to a share of sqrt((2 + e) / 4n) with e,
    the ratios' excess kurtosis, below 1 here. Five of either are allowed, and float32's rounding.
    """
    ratio = np.array([(transform(seed, DIRECTIONS) ** 2).sum(axis=1) for seed in range(MAPS)])
    ratio /= (DIRECTIONS**2).sum(axis=1)
    peaks = (DIRECTIONS**4).sum(axis=1) / (DIRECTIONS**2).sum(axis=1) ** 2
    std = np.sqrt(2 * (64 - DIM_OUT) / (DIM_OUT * 63) * (1 - peaks))
    rounding = 8 * FLOAT32
    np.testing.assert_array_less(abs(ratio.mean(axis=0) - 1), 5 * std / MAPS**0.5 + rounding)
    tolerance = 5 * np.sqrt(3 / (4 * MAPS))
    np.testing.assert_allclose(ratio.std(axis=0), std, rtol=tolerance, atol=rounding)
    assert expected_ratio_std("hadamard", DIM_IN, DIM_OUT) == pytest.approx(std[2])


def sound(seed: int, X: np.ndarray) -> np.ndarray:
    mapped: np.ndarray = made(DIM_IN, DIM_OUT, seed).transform(X)
    return mapped


def test_lengths_are_kept_with_the_spread_the_theory_gives() -> None:
    check_keeps_squared_lengths(sound)


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(lambda seed, X: sound(seed, X) * 1.02, id="scaled"),
        pytest.param(lambda seed, X: sound(seed, X) * np.sqrt(48 / 64), id="scaled-by-columns"),
        pytest.param(lambda _, X: sound(0, X), id="always-the-same"),
        pytest.param(lambda seed, X: sound(seed, X * made(48, 24, seed).signs_), id="no-sign"),
        pytest.param(lambda seed, X: sound(seed, X)[:, :12].repeat(2, 1), id="half-the-width"),
        pytest.param(lambda _, X: X[:, :24] * np.sqrt(2), id="truncated"),
    ],
)
def test_the_length_check_can_fail(broken: Callable[..., Any]) -> None:
    with pytest.raises(AssertionError):
        check_keeps_squared_lengths(broken)


def test_expected_spreads_by_hand() -> None:
    assert hadamard_ratio_std(4, 2) == pytest.approx(np.sqrt(2 * 2 * 3 / 4 / (2 * 3)))
    assert hadamard_ratio_std(3, 2) == pytest.approx(np.sqrt(2 * 2 * 2 / 3 / (2 * 3)))
    assert hadamard_ratio_std(3, 3) == pytest.approx(np.sqrt(2 * 1 * 2 / 3 / (3 * 3)))
    assert hadamard_ratio_std(64, 64) == hadamard_ratio_std(1, 1) == 0.0
    with pytest.raises(ProjectionError, match="dim_out must be at most dim_in, got 9 and 8"):
        hadamard_ratio_std(8, 9)


@pytest.mark.parametrize("dims", [(64, 64), (64, 20), (1, 1), (5, 5), (33, 20), (100, 100)])
def test_the_inverse_is_the_shortest_row_that_maps_nearest(dims: tuple[int, int]) -> None:
    projection = made(*dims)
    mapped = np.random.default_rng(0).standard_normal((3, dims[1]))
    matrix = projection.matrix.astype(np.float64)
    expected = np.linalg.lstsq(matrix.T, mapped.T, rcond=None)[0].T
    np.testing.assert_allclose(projection.inverse_transform(mapped), expected, atol=1e-11)


def test_the_inverse_of_a_full_width_needs_no_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(np.linalg, "pinv", None)
    made(64, 20).inverse_transform(np.ones((2, 20)))


def test_the_digest_is_of_signs_and_coordinates() -> None:
    projection = made(12, 5, seed=3)
    bits = projection.signs_.astype("i1").tobytes() + projection.kept_.astype("<i8").tobytes()
    assert projection.describe()["digest"] == "sha256:" + hashlib.sha256(bits).hexdigest()
    with pytest.raises(ValueError, match="read-only"):
        projection.signs_[0] = 0
    with pytest.raises(ValueError, match="read-only"):
        projection.kept_[0] = 0


def peak_of(work: Callable[[], object]) -> int:
    tracemalloc.start()
    work()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def test_a_map_is_drawn_described_and_applied_without_a_matrix() -> None:
    rows = np.ones((4, 8192), dtype=np.float32)

    def work() -> None:
        projection = made(8192, 4096)  # 128 MiB as a matrix
        projection.describe()
        projection.transform(rows)

    assert peak_of(work) < 8 * MIB


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_many_rows_take_two_blocks_beyond_their_result(dtype: str) -> None:
    X, projection = np.ones((20_000, 200), dtype=dtype), made(200, 100)
    result = 20_000 * 100 * X.itemsize
    peak = peak_of(lambda: projection.transform(X)) - result
    assert peak < 2.5 * hadamard.BLOCK * X.itemsize


def check_tensors(device: str) -> None:
    import torch

    for dims, rows in (((700, 300), 800), ((1, 1), 3), ((64, 64), 5000)):
        projection = made(*dims)
        X = np.random.default_rng(0).standard_normal((rows, dims[0])).astype(np.float32)
        found = projection.transform_tensor(torch.tensor(X, device=device))
        assert (found.device.type, found.dtype) == (device, torch.float32)
        expected = projection.transform(X)
        bound = 1e-5 * np.abs(expected).max()
        np.testing.assert_allclose(found.cpu().numpy(), expected, rtol=0, atol=bound)
        double = projection.transform_tensor(torch.tensor(X, device=device).double())
        exact = projection.transform(X.astype(np.float64))
        np.testing.assert_allclose(double.cpu().numpy(), exact, rtol=0, atol=1e-12)


def test_tensors_are_mapped_as_arrays_are() -> None:
    check_tensors("cpu")


@pytest.mark.gpu
def test_tensors_on_a_gpu_are_mapped_as_arrays_are() -> None:
    check_tensors("cuda")


def test_half_precision_and_autocast_are_mapped_in_float32_and_gradients_pass() -> None:
    import torch

    projection = made(50, 20)
    half = torch.randn(9, 50, generator=torch.Generator().manual_seed(0)).bfloat16()
    X = half.float().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        found, of_half = map(projection.transform_tensor, (X, half))
    assert found.dtype == of_half.dtype == torch.float32
    np.testing.assert_allclose(of_half, projection.transform(half.float().numpy()), atol=1e-5)
    found[:, 3].sum().backward()
    assert X.grad is not None
    np.testing.assert_allclose(X.grad.numpy(), np.tile(projection.matrix[:, 3], (9, 1)), atol=1e-6)


def test_tensors_it_cannot_map_are_refused() -> None:
    import torch

    message = r"X has the shape \(2, 5\), but this HadamardProjection reads rows of 6: pass a"
    with pytest.raises(ProjectionError, match=message):
        made(6, 2).transform_tensor(torch.zeros(2, 5))
    with pytest.raises(ProjectionError, match=r"X has the shape \(6,\)"):
        made(6, 2).transform_tensor(torch.zeros(6))
    with pytest.raises(NotFittedError):
        HadamardProjection(2).transform_tensor(torch.zeros(2, 6))


def test_arrays_are_mapped_without_loading_torch() -> None:
    script = (
        "import sys, numpy as np; from projections.hadamard import HadamardProjection as H; "
        "H(2).fit_transform(np.ones((3, 5))); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT).returncode == 0
