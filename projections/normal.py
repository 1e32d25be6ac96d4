"""Standard normal numbers from a key, bit for bit the same on every machine; NumPy only.

NumPy keeps the raw bits of its bit generators fixed for ever (NEP 19) but neither the stream of
``Generator.standard_normal`` nor the last digits of ``np.log``, which follow the CPU. So the raw
64-bit words of Philox4x64 (Salmon et al., 2011, doi:10.1145/2063384.2063405) become normal numbers
here, by the inverse of the normal distribution (Wichura, 1988, AS 241, PPND16,
doi:10.2307/2347330), with nothing but operations that IEEE 754 rounds in one way only:
+, -, *, /, sqrt, and frexp, which is exact.
"""

import hashlib

import numpy as np
from jaxtyping import Float, Float64, UInt64

BLOCK = 1 << 14  # words at a time: the temporaries stay in the CPU's cache

# Numerators and denominators of AS 241, the constant term last.
_CENTRE = (
    (
        2.5090809287301226727e3,
        3.3430575583588128105e4,
        6.7265770927008700853e4,
        4.5921953931549871457e4,
        1.3731693765509461125e4,
        1.9715909503065514427e3,
        1.3314166789178437745e2,
        3.3871328727963666080e0,
    ),
    (
        5.2264952788528545610e3,
        2.8729085735721942674e4,
        3.9307895800092710610e4,
        2.1213794301586595867e4,
        5.3941960214247511077e3,
        6.8718700749205790830e2,
        4.2313330701600911252e1,
        1.0,
    ),
)
_TAIL = (
    (
        7.74545014278341407640e-4,
        2.27238449892691845833e-2,
        2.41780725177450611770e-1,
        1.27045825245236838258e0,
        3.64784832476320460504e0,
        5.76949722146069140550e0,
        4.63033784615654529590e0,
        1.42343711074968357734e0,
    ),
    (
        1.05075007164441684324e-9,
        5.47593808499534494600e-4,
        1.51986665636164571966e-2,
        1.48103976427480074590e-1,
        6.89767334985100004550e-1,
        1.67638483018380384940e0,
        2.05319162663775882187e0,
        1.0,
    ),
)
_FAR_TAIL = (
    (
        2.01033439929228813265e-7,
        2.71155556874348757815e-5,
        1.24266094738807843860e-3,
        2.65321895265761230930e-2,
        2.96560571828504891230e-1,
        1.78482653991729133580e0,
        5.46378491116411436990e0,
        6.65790464350110377720e0,
    ),
    (
        2.04426310338993978564e-15,
        1.42151175831644588870e-7,
        1.84631831751005468180e-5,
        7.86869131145613259100e-4,
        1.48753612908506148525e-2,
        1.36929880922735805310e-1,
        5.99832206555887937690e-1,
        1.0,
    ),
)
_ATANH_SERIES = tuple(1.0 / n for n in range(25, 0, -2))  # 1/25 … 1/3, 1
_LN2 = 0.6931471805599453
_SQRT_HALF = 0.7071067811865476


def stream(name: str, dim_in: int, dim_out: int, seed: int) -> np.random.Philox:
    """Bit generator of one map: another kind, width or seed is another, unrelated stream.

    The 128-bit key is the start of the SHA-256 of a text that names the map, so that no two
    maps share a stream and a seed of any size counts in full.
    """
    named = f"{name} {dim_in}x{dim_out} seed {seed}"
    key = np.frombuffer(hashlib.sha256(named.encode()).digest()[:16], dtype="<u8")
    return np.random.Philox(key=key.astype(np.uint64))


def fill_normals(
    out: Float[np.ndarray, " count"], bits: np.random.Philox, *, scale: float = 1.0
) -> None:
    """Fill ``out`` with the next draws from N(0, scale²), one 64-bit word each.

    Computed in float64 and rounded once if ``out`` is float32.
    """
    for start in range(0, len(out), BLOCK):
        block = out[start : start + BLOCK]
        block[:] = normals_of(np.asarray(bits.random_raw(len(block)))) * scale


def normals_of(words: UInt64[np.ndarray, " count"]) -> Float64[np.ndarray, " count"]:
    """One standard normal number a word: the top bit is the sign, 52 bits the tail's share.

    The share (m + 1/2) / 2⁵³ lies strictly inside (0, 1/2) and is exact in float64, so neither
    end is ever hit and the draws are symmetric about zero; the largest is 8.3.
    """
    share = ((words & np.uint64((1 << 52) - 1)).astype(np.float64) + 0.5) * 2.0**-53
    sign = np.where(words >> np.uint64(63), -1.0, 1.0)
    normals: Float64[np.ndarray, " count"] = sign * upper_quantile(share)
    return normals


def upper_quantile(share: Float64[np.ndarray, " count"]) -> Float64[np.ndarray, " count"]:
    """Find the positive z that a standard normal number exceeds with this probability.

    Shares lie in [2⁻⁵⁴, 1/2). Relative accuracy about 1e-15.
    """
    below_middle = 0.5 - share
    inside = 0.180625 - below_middle * below_middle
    # outside the centre the centre's formula is not meant: zero keeps its result finite there
    z: Float64[np.ndarray, " count"] = below_middle * _ratio(_CENTRE, np.maximum(inside, 0.0))
    tail = np.flatnonzero(below_middle > 0.425)
    root = np.sqrt(-natural_log(share[tail]))
    z[tail] = np.where(
        root <= 5.0,
        _ratio(_TAIL, np.minimum(root, 5.0) - 1.6),
        _ratio(_FAR_TAIL, np.maximum(root, 5.0) - 5.0),
    )
    return z


def natural_log(x: Float64[np.ndarray, " count"]) -> Float64[np.ndarray, " count"]:
    """Logarithm of positive numbers to about 2 ulp, the same on every machine.

    x = m 2ᵉ with m in [√½, √2), log m = 2 atanh(s) with s = (m - 1)/(m + 1), |s| < 0.172:
    thirteen terms of the series leave less than 2⁻⁶⁰.
    """
    mantissa, exponent = np.frexp(x)
    small = mantissa < _SQRT_HALF
    mantissa = np.where(small, mantissa * 2.0, mantissa)
    s = (mantissa - 1.0) / (mantissa + 1.0)
    log: Float64[np.ndarray, " count"] = 2.0 * s * _horner(_ATANH_SERIES, s * s)
    log += (exponent - small) * _LN2
    return log


def _ratio(
    formula: tuple[tuple[float, ...], tuple[float, ...]], x: Float64[np.ndarray, " count"]
) -> Float64[np.ndarray, " count"]:
    numerator, denominator = formula
    ratio = _horner(numerator, x)
    ratio /= _horner(denominator, x)
    return ratio


def _horner(
    coefficients: tuple[float, ...], x: Float64[np.ndarray, " count"]
) -> Float64[np.ndarray, " count"]:
    # one ufunc an operation: a compiler cannot fuse multiply and add, which would round once
    total = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        total *= x
        total += coefficient
    return total
