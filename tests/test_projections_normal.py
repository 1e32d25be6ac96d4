"""Normal numbers from raw bits: exact, normal, unrelated between streams."""

import hashlib
import statistics
from collections.abc import Callable

import numpy as np
import pytest
import scipy.special
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from projections import normal
from projections.normal import fill_normals, natural_log, normals_of, stream, upper_quantile

COUNT = 100_000

# The same with NumPy 1.26 and 2.4, and with every instruction set this was tried on.
PINNED_FIRST = [
    "0x1.0d347eea9a7b6p-2",  # 0.262896
    "0x1.aa928c2495cb5p-3",  # 0.208287
    "0x1.b0c0599c6a859p-1",  # 0.845218
    "0x1.cbe19657b1f85p-4",  # 0.112276
]
PINNED_MILLION = "c4ba8f9267c414f7d6ea5c37de47221b6d6935f93281d4017540991cfb1697da"


def drawn(count: int, *, name: str = "test", seed: int = 0) -> np.ndarray:
    out = np.empty(count)
    fill_normals(out, stream(name, 3, 2, seed))
    return out


def test_the_quantile_agrees_with_scipy_everywhere() -> None:
    rng = np.random.default_rng(0)
    shares = np.concatenate(
        [
            0.5 * rng.random(COUNT),
            2.0 ** -rng.uniform(1, 54, COUNT),  # the tails, evenly by order of magnitude
            2.0 ** -np.arange(2.0, 55.0),
            0.5 - 2.0 ** -np.arange(2.0, 55.0),
            np.array([0.075, 0.0749999, 0.0750001]),  # the border of the centre
            np.exp(-25.0) * np.array([1 - 1e-9, 1.0, 1 + 1e-9]),  # and of the far tail
        ]
    )
    np.testing.assert_allclose(
        upper_quantile(shares), -scipy.special.ndtri(shares), rtol=1e-14, atol=0
    )


def test_the_logarithm_is_good_to_two_units_in_the_last_place() -> None:
    x = np.concatenate([2.0 ** np.random.default_rng(0).uniform(-54, 3, COUNT), [1.0, 0.5, 2.0]])
    np.testing.assert_array_max_ulp(natural_log(x), np.log(x), maxulp=4)
    assert natural_log(np.array([1.0]))[0] == 0.0


def test_every_word_becomes_the_number_the_definition_says() -> None:
    words = np.asarray(stream("words", 1, 1, 7).random_raw(500))
    words[:6] = [0, 1, 2**63, 2**64 - 1, 2**52 - 1, 2**62]
    shares = [((int(word) % 2**52) + 0.5) / 2**53 for word in words]
    signs = [-1 if int(word) >> 63 else 1 for word in words]
    plain = [-s * statistics.NormalDist().inv_cdf(p) for s, p in zip(signs, shares, strict=True)]
    np.testing.assert_allclose(normals_of(words), plain, rtol=1e-13)


def test_the_ends_are_finite_and_symmetric() -> None:
    ends = normals_of(np.array([0, 2**63, 2**52 - 1, 2**64 - 1], dtype=np.uint64))
    assert ends[0] == -ends[1] == pytest.approx(8.2924, abs=1e-3)
    assert 0 < ends[2] < 1e-15
    assert ends[3] == -ends[2]


def test_first_values_have_not_changed() -> None:
    found = [value.hex() for value in drawn(4)]
    assert found == PINNED_FIRST


def test_a_million_values_have_not_changed() -> None:
    bits = drawn(1_000_003).astype("<f8").tobytes()
    assert hashlib.sha256(bits).hexdigest() == PINNED_MILLION


@given(count=st.integers(0, 200), block=st.integers(1, 64))
def test_the_block_size_changes_no_bit(count: int, block: int) -> None:
    whole = drawn(count)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(normal, "BLOCK", block)
        np.testing.assert_array_equal(drawn(count), whole)


def test_float32_is_the_float64_rounded_once() -> None:
    single = np.empty(1000, dtype=np.float32)
    fill_normals(single, stream("test", 3, 2, 0), scale=0.3)
    np.testing.assert_array_equal(single, (drawn(1000) * 0.3).astype(np.float32))


@pytest.mark.parametrize(
    "other", [("test", 3, 2, 1), ("test", 2, 3, 0), ("test", 32, 2, 0), ("rest", 3, 2, 0)]
)
def test_another_name_width_or_seed_is_another_stream(other: tuple[str, int, int, int]) -> None:
    out = np.empty(COUNT)
    fill_normals(out, stream(*other))
    correlation = np.corrcoef(drawn(COUNT), out)[0, 1]
    assert abs(correlation) < 5 / np.sqrt(COUNT)


def test_a_seed_counts_in_full() -> None:
    assert not np.array_equal(drawn(8, seed=2**64 + 5), drawn(8, seed=5))


def check_is_standard_normal(values: np.ndarray) -> None:
    """Four moments within five standard errors, and the Kolmogorov-Smirnov distance.

    Under normality the k-th moment's estimate has the variance (m_2k - m_k²) / n; the distance
    exceeds 2.23 / sqrt(n) once in ten thousand samples.
    """
    n = len(values)
    for power, expected, variance in [(1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)]:
        tolerance = 5 * np.sqrt(variance / n)
        np.testing.assert_allclose((values**power).mean(), expected, atol=tolerance)
    assert scipy.stats.kstest(values, "norm").statistic < 2.23 / np.sqrt(n)
    lag = (values[1:] * values[:-1]).mean()
    np.testing.assert_allclose(lag, 0, atol=5 / np.sqrt(n))


@pytest.mark.parametrize("seed", range(5))
def test_draws_are_normal_and_uncorrelated(seed: int) -> None:
    check_is_standard_normal(drawn(COUNT, seed=seed))


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(lambda z: z * 1.02, id="scaled"),
        pytest.param(lambda z: z + 0.02, id="shifted"),
        pytest.param(np.abs, id="no-sign"),
        pytest.param(lambda z: np.clip(z, -2.5, 2.5), id="no-tails"),
        pytest.param(np.sort, id="sorted"),
        pytest.param(lambda z: np.sign(z) * np.sqrt(np.abs(z)), id="wrong-shape"),
        pytest.param(lambda z: np.repeat(z[::2], 2), id="each-twice"),
        pytest.param(np.zeros_like, id="zeros"),
    ],
)
def test_the_normality_check_can_fail(broken: Callable[[np.ndarray], np.ndarray]) -> None:
    with pytest.raises(AssertionError):
        check_is_standard_normal(broken(drawn(COUNT)))
