"""Sweeps made up for tests of the reporting package; the figures are those of a likely run."""

import dataclasses
import math
from typing import Any

from distill.certify import NOT_TESTED, UNDECIDED, WITHIN, WORSE
from distill.findings import (
    Band,
    Certificate,
    Diagnostics,
    Interval,
    Recommended,
    Sweep,
    SweptMap,
    Tested,
)

DIM, CLASSES, TEST = 512, 21, 1000
KINDS = ("gaussian", "pca")
WIDTHS = (256, 128, 32, 8)


def band(mean: float, half: float = 0.01) -> Band:
    return Band(mean=mean, interval=Interval(low=mean - half, high=mean + half))


def certificate(verdict: str, loss: float, *, needed: int | None = None) -> Certificate:
    return Certificate(
        verdict=verdict, tolerance=0.01, loss=loss, low=loss - 0.006, high=loss + 0.006,
        discordant=0.03, rows=TEST, seeds=5, rows_needed=needed,
    )  # fmt: skip


def on_test(accuracy: float, found: Certificate | None) -> Tested:
    return Tested(
        accuracy=band(accuracy), interval=Interval(low=accuracy - 0.02, high=accuracy + 0.02),
        macro_f1=band(accuracy - 0.01), worst_class_accuracy=band(accuracy - 0.3),
        calibration_error=band(0.02), certificate=found,
    )  # fmt: skip


def swept_map(kind: str, k: int, loss: float, verdict: str, **changed: Any) -> SweptMap:
    aware = kind not in {"gaussian", "full"}
    needed = 4200 if verdict == UNDECIDED else None
    found = SweptMap(
        kind=kind, data_aware=aware, seeded=kind == "gaussian", dim_out=k, factor=DIM / k,
        l2=1e-3, temperature=1.2, accuracy=band(0.9 - loss), loss=band(loss, 0.004),
        loss_bound=loss + 0.005, holds=loss <= 0.01, macro_f1=band(0.89 - loss),
        worst_class_accuracy=band(0.5), calibration_error=band(0.03),
        margin_kept=band(1 - 5 * loss), distortion=band(1.0, 0.05),
        distortion_std=band(math.sqrt(2 / k)), recall=band(0.8), separation=band(1 - 2 * loss),
        multiply_adds=min(k * (DIM + CLASSES), DIM * CLASSES), stored=k * CLASSES + CLASSES,
        tested=on_test(0.9 - loss, certificate(verdict, loss, needed=needed)),
    )  # fmt: skip
    return dataclasses.replace(found, **changed)


def recommended(kind: str, k: int, verdict: str, loss: float = 0.004) -> Recommended:
    return Recommended(
        kind=kind, dim_out=k, factor=DIM / k, cost=min(k * (DIM + CLASSES), DIM * CLASSES),
        stored=k * CLASSES, loss=loss, verdict=verdict,
        why=f"it loses {100 * loss:.2f} points in cross-validation; no smaller k was tried",
    )  # fmt: skip


def full_sweep(**changed: Any) -> Sweep:
    """Gaussian maps hold down to 256, PCA down to 8."""
    full = dataclasses.replace(
        swept_map("full", DIM, 0.0, WITHIN), tested=on_test(0.9, None), distortion=band(1.0, 0.0)
    )
    maps = (
        swept_map("gaussian", 256, 0.002, WITHIN),
        swept_map("gaussian", 128, 0.013, UNDECIDED),
        swept_map("gaussian", 32, 0.15, NOT_TESTED),
        swept_map("gaussian", 8, 0.6, NOT_TESTED),
        swept_map("pca", 256, -0.001, WITHIN),
        swept_map("pca", 128, 0.0, WITHIN),
        swept_map("pca", 32, 0.002, WITHIN),
        swept_map("pca", 8, 0.008, WORSE),
    )
    found = Sweep(
        fingerprint="abc", stores={"train": "sha256:1"}, dim=DIM, classes=CLASSES,
        rows={"train": 3000, "validation": 500, "test": TEST}, tolerance=0.01, shipped="head",
        seeds=5, folds=5, l2=(1e-4, 1e-3), break_even=DIM * CLASSES / (DIM + CLASSES),
        best=recommended("pca", 8, WORSE, 0.008),
        families=(recommended("gaussian", 256, WITHIN), recommended("pca", 8, WORSE, 0.008)),
        full=full, maps=maps,
        diagnostics=Diagnostics(
            rows=500, figures={"two_nn": 11.2, "nc1": 3.4, "levina_bickel": None}
        ),
        verdict="compressible", sentence="Compressible: gaussian loses 0.20 points at 256.",
        cells=45, seconds=12.0, notes=("factors 2 and 2.01 both give k = 256, made once",),
    )  # fmt: skip
    return dataclasses.replace(found, **changed)
