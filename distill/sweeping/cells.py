"""One cell of a sweep: a map of one kind and width, one seed, heads over the l2 grid, scored.

A cell is a small record that is written when it is done. Nothing in it but its scores and its
geometry comes from the held-out rows: the digests of map and heads tell.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64

from distill.findings import Record
from distill.metrics import (
    accuracy,
    expected_calibration_error,
    fit_temperature,
    geometric_margins,
    macro_f1,
    margin_kept,
    worst_class,
)
from distill.sweeping.folds import Split
from students import FittedHead

FEWEST_CALIBRATING = 20  # rows; with fewer a temperature is noise, and 1 is taken


@dataclass(frozen=True, kw_only=True)
class CellScore(Record):
    """One l2 on the held-out rows."""

    l2: float
    converged: bool
    accuracy: float
    macro_f1: float
    worst_class_accuracy: float
    temperature: float  # set on rows of the training part that the head was not fitted on
    calibration_error: float  # with that temperature
    margin_kept: float | None
    correct: str  # which held-out rows were hit: bits, in hexadecimal


@dataclass(frozen=True, kw_only=True)
class Cell(Record):
    """One kind, width and seed."""

    kind: str
    dim_out: int
    seed: int
    held_rows: int
    map_digest: str  # "" for the features as they are
    head_digest: str
    scores: tuple[CellScore, ...]  # largest l2 first
    distortion: float | None
    distortion_std: float | None
    recall: float | None
    separation: float | None

    @property
    def name(self) -> str:
        """As its file is called."""
        return cell_name(self.kind, self.dim_out, self.seed)


def cell_name(kind: str, dim_out: int, seed: int) -> str:
    """gaussian-k32-s0."""
    return f"{kind}-k{dim_out}-s{seed}"


def score_heads(
    heads: Sequence[FittedHead],
    calibrating: Sequence[Float32[np.ndarray, "calibrate classes"]],
    held: Sequence[Float32[np.ndarray, "held classes"]],
    labels: Int64[np.ndarray, " rows"],
    split: Split,
    *,
    spread: float,
    reference: Float32[np.ndarray, " held"] | None,
) -> tuple[CellScore, ...]:
    """Score each head by its logits of the rows that calibrate and of those held out.

    ``spread`` is that of the rows the heads were fitted on. ``reference`` are the full head's
    margins of the held-out rows; None for that head itself.
    """
    return tuple(
        _score(
            head,
            temperature_of(setting, labels[split.calibrate]),
            logits,
            labels[split.held],
            spread,
            reference,
        )
        for head, setting, logits in zip(heads, calibrating, held, strict=True)
    )


def temperature_of(
    logits: Float32[np.ndarray, "rows classes"], labels: Int64[np.ndarray, " rows"]
) -> float:
    """What logits are to be divided by; 1 where too few rows could tell."""
    return fit_temperature(logits, labels) if len(labels) >= FEWEST_CALIBRATING else 1.0


def _score(
    head: FittedHead,
    temperature: float,
    logits: Float32[np.ndarray, "held classes"],
    labels: Int64[np.ndarray, " held"],
    spread: float,
    reference: Float32[np.ndarray, " held"] | None,
) -> CellScore:
    predicted = logits.argmax(axis=1)
    kept = None
    if reference is not None:
        kept = margin_kept(reference, relative_margins(logits, labels, head, spread))
    return CellScore(
        l2=head.l2,
        converged=head.converged,
        accuracy=accuracy(labels, predicted),
        macro_f1=macro_f1(labels, predicted),
        worst_class_accuracy=worst_class(labels, predicted)[1],
        temperature=temperature,
        calibration_error=expected_calibration_error(probabilities(logits, temperature), labels),
        margin_kept=kept,
        correct=packed(predicted == labels),
    )


def spread_of(rows: Float32[np.ndarray, "rows dim"]) -> float:
    """Root mean square distance of the rows from their mean; 1 where they are all equal."""
    return float(np.sqrt(rows.var(axis=0, dtype=np.float64).sum())) or 1.0


def relative_margins(
    logits: Float32[np.ndarray, "rows classes"],
    labels: Int64[np.ndarray, " rows"],
    head: FittedHead,
    spread: float,
) -> Float32[np.ndarray, " rows"]:
    """Distance of each row to the nearest boundary of its class, as a share of ``spread``.

    Relative to the rows' own spread, margins before and after a map of any scale compare. Where
    classes have no boundary at all there are no margins: zeros.
    """
    found = geometric_margins(logits, labels, head.weight) / spread
    return np.where(np.isfinite(found), found, 0.0).astype(np.float32)


def probabilities(
    logits: Float[np.ndarray, "rows classes"], temperature: float
) -> Float[np.ndarray, "rows classes"]:
    """Softmax of logits over temperature, in float64."""
    scaled = logits.astype(np.float64) / temperature
    scaled -= scaled.max(axis=1, keepdims=True)
    chances: Float[np.ndarray, "rows classes"] = np.exp(scaled, out=scaled)
    chances /= chances.sum(axis=1, keepdims=True)
    return chances


def packed(bits: Bool[np.ndarray, " rows"]) -> str:
    """Bits as text, four a character."""
    return np.packbits(bits).tobytes().hex()


def unpacked(text: str, rows: int) -> Bool[np.ndarray, " rows"]:
    """Bits of ``packed``."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8), count=rows).astype(bool)


def digest_of(heads: Sequence[FittedHead]) -> str:
    """SHA-256 of the numbers of some heads."""
    known = hashlib.sha256()
    for head in heads:
        known.update(np.ascontiguousarray(head.weight, "<f4").data)
        known.update(np.ascontiguousarray(head.bias, "<f4").data)
    return "sha256:" + known.hexdigest()
