"""Reports made up for tests of the reporting package; the figures are those of a likely run."""

import dataclasses
import itertools
import math
from typing import Any

from distill.findings import (
    Check,
    Cost,
    Difference,
    Distortion,
    Extracted,
    ExtractedSplit,
    Head,
    Interval,
    Latency,
    Projected,
    Promise,
    Report,
    Score,
    Student,
    Taught,
    Validation,
)

DIM, CLASSES, ROWS = 2048, 10, 360
ACCURACIES = {2: 0.975, 4: 0.975, 8: 0.972, 16: 0.967, 64: 0.939, 256: 0.742}
TEACHER_PARAMETERS = 23_528_522


def score(accuracy: float, *, rows: int = ROWS, worst: str = "8") -> Score:
    z = 1.96
    centre = (accuracy + z * z / (2 * rows)) / (1 + z * z / rows)
    half = (
        z
        / (1 + z * z / rows)
        * math.sqrt(accuracy * (1 - accuracy) / rows + z * z / (4 * rows * rows))
    )
    return Score(
        rows=rows,
        accuracy=accuracy,
        interval=Interval(low=centre - half, high=centre + half),
        macro_f1=accuracy - 0.002,
        worst_class=worst,
        worst_class_accuracy=max(accuracy - 0.05, 0.0),
    )


def difference(value: float, half: float) -> Difference:
    return Difference(
        against="full", value=value, interval=Interval(low=value - half, high=value + half)
    )


def head(factor: int, *, kind: str = "gaussian", seed: int = 0, accuracy: float = 0.0) -> Head:
    """The full head for factor 1, else one on a projected store."""
    k = DIM // factor
    full = factor == 1
    share = accuracy or (0.975 if full else ACCURACIES[factor])
    half = {2: 0.006, 4: 0.009, 8: 0.011, 16: 0.013, 64: 0.02, 256: 0.045}.get(factor, 0.01)
    return Head(
        name="full" if full else f"{kind}-k{k}-s{seed}",
        kind="" if full else kind,
        dim_in=DIM,
        dim_out=k,
        classes=CLASSES,
        seed=seed,
        l2=1e-3,
        validation_accuracy=share,
        test=score(share),
        difference=None if full else difference(share - 0.975, half),
        train_rows=1221,
        converged=True,
        seconds=0.4,
    )


def histogram(mean: float, std: float) -> tuple[tuple[float, ...], tuple[int, ...]]:
    low, high = max(mean - 4 * std, 0.0), mean + 4 * std
    edges = tuple(low + (high - low) * at / 60 for at in range(61))
    middles = [(a + b) / 2 for a, b in itertools.pairwise(edges)]
    return edges, tuple(round(2000 * math.exp(-(((m - mean) / std) ** 2) / 2)) for m in middles)


def validation(k: int, *, failed: bool = False, diagnostic_only: bool = False) -> Validation:
    std, mean = math.sqrt(2 / k), 1.31 if failed else 1 + 0.2 * math.sqrt(2 / (k * 12))
    edges, counts = histogram(mean, std)
    checks = (
        Check(name="scale", passed=not failed, detail=f"mean ratio {mean:.3f}, at most 1.06"),
        Check(name="recall", passed=True, detail="0.71, at least 0.2"),
    )
    return Validation(
        reference="features",
        candidate=f"gaussian-k{k}-s0",
        kind="gaussian",
        dim_in=DIM,
        dim_out=k,
        seed=0,
        split="train",
        rows=1221,
        queries=1221,
        k=10,
        distortion=Distortion(
            pairs=20000, mean=mean, std=std, p01=max(mean - 2.2 * std, 0.01), p50=mean,
            p99=mean + 2.5 * std, eps=0.5, within_eps=min(1.0, 0.35 * math.sqrt(k) / 2),
            histogram_edges=edges, histogram_counts=counts,
        ),
        promise=Promise(
            lemma_dim=342, lemma_eps=0.41 if k >= 512 else (0.76 if k == 256 else None),
            expected_std=std, shared_shift=math.sqrt(2 / (k * 12)), participation_ratio=12.0,
        ),
        recall=max(0.12, 1 - 1.6 / math.sqrt(k)),
        knn_accuracy_reference=0.969,
        knn_accuracy_candidate=0.969 - 1 / k,
        rank_correlation=max(0.3, 1 - 1.2 / math.sqrt(k)),
        checks=checks,
        diagnostic_only=diagnostic_only,
        seconds=0.7,
    )  # fmt: skip


def projected(factor: int, found: Validation | None) -> Projected:
    k = DIM // factor
    return Projected(
        name=f"gaussian-k{k}-s0", kind="gaussian", dim_in=DIM, dim_out=k, seed=0,
        factor_asked=float(factor), factor=DIM / k, rows=1797, bytes=1797 * k * 4, validation=found,
    )  # fmt: skip


def student(method: str, accuracy: float, **changes: Any) -> Student:
    plain = Student(
        name=f"resnet10t-{'gaussian-k128-s0' if method == 'subspace' else method}",
        network="timm/resnet10t",
        method=method,
        target="gaussian-k128-s0" if method == "subspace" else "",
        dim_out=128,
        classes=CLASSES,
        parameters=402_346,
        teacher_parameters=TEACHER_PARAMETERS,
        epochs=30,
        best_epoch=27,
        validation_accuracy=accuracy,
        test=score(accuracy),
        difference=difference(accuracy - 0.975, 0.02),
        agreement=accuracy - 0.004,
        seed=0,
        seconds=41.0,
    )
    return dataclasses.replace(plain, **changes)


def cost(name: str, role: str, parameters: int, adds: int, seconds: float) -> Cost:
    return Cost(
        name=name,
        role=role,
        parameters=parameters,
        multiply_adds=adds,
        bytes_on_disk=4 * parameters + 900,
        latencies=(
            Latency(batch=1, seconds=seconds, device="cpu"),
            Latency(batch=64, seconds=20 * seconds, device="cpu"),
        ),
    )


def full_report() -> Report:
    """Six factors, a student with both baselines, costs: what the digits run gives."""
    factors = tuple(ACCURACIES)
    heads = (head(1), *(head(factor) for factor in factors))
    return Report(
        format=1,
        title="Handwritten digits",
        dataset="digits",
        data_note="digits is so easy that almost any map keeps its classes apart; "
        "conclude nothing about other data from it.",
        teacher="timm/resnet50",
        classes=CLASSES,
        taught=Taught(
            teacher="timm/resnet50", classes=CLASSES, dim=DIM, parameters=TEACHER_PARAMETERS,
            epochs=4, best_epoch=4, validation_accuracy=0.981, test=score(0.972), seconds=101.0,
        ),
        extracted=Extracted(
            teacher="timm/resnet50", dataset="digits", dim=DIM, logits=10, dtype="float32",
            splits=(
                ExtractedSplit(split="train", rows=1221),
                ExtractedSplit(split="validation", rows=216),
                ExtractedSplit(split="test", rows=360),
            ),
            bytes=1797 * DIM * 4, seconds=12.0, rows_written=1797, rows_per_second=150.0,
        ),
        projected=tuple(projected(factor, validation(DIM // factor)) for factor in factors),
        heads=heads,
        students=(
            student("subspace", 0.958),
            student("labels", 0.947),
            student("logits", 0.953),
        ),
        costs=(
            cost("timm/resnet50", "teacher", TEACHER_PARAMETERS, 86_000_000, 0.0113),
            cost("resnet10t-gaussian-k128-s0", "student", 402_346, 4_100_000, 0.0016),
            *(cost(h.name, "head", 10 * (h.dim_out + 1), 10 * h.dim_out, 2e-5) for h in heads),
        ),
        environment={"python": "3.11.7", "libraries": {"torch": "2.15.0", "timm": "1.0.31"},
                     "cores": 2, "threads": 2},
        notes=("the teacher's 1000-class head does not fit the task and was dropped",),
    )  # fmt: skip


def imported_report() -> Report:
    """Features brought along: no teacher, no student, no costs."""
    return dataclasses.replace(
        full_report(), teacher="", taught=None, students=(), costs=(), notes=(), data_note="",
        extracted=dataclasses.replace(full_report().extracted, teacher=""),
    )  # fmt: skip


def smallest_report() -> Report:
    """One head, one factor, no validation, nothing else."""
    return dataclasses.replace(
        imported_report(), heads=(head(1),), projected=(projected(16, None),), environment={}
    )
