"""The options that each command takes, by name and type."""

from typing import Literal, TypedDict


class DataOptions(TypedDict, total=False):
    """Which examples."""

    data: str
    text_columns: str
    label_column: str
    limit: int
    skip_bad: bool


class ComputeOptions(TypedDict, total=False):
    """Where the work is done."""

    device: str
    workers: int


class TeacherOptions(DataOptions, ComputeOptions, total=False):
    """Which teacher, on which examples."""

    teacher: str
    weights: str
    random_init: bool
    image_size: int
    pooling: str
    layer: str
    batch_size: int


class TeachOptions(TeacherOptions, total=False):
    """Options of ``train-teacher``."""

    epochs: int
    learning_rate: float
    augment: str
    precision: str
    folds: int
    seed: int


class ExtractOptions(TeacherOptions, total=False):
    """Options of ``extract``."""

    held_out: bool
    dtype: str
    views: int
    augment: str
    mix: str
    unlabeled: str
    factor: float
    kind: str
    seed: int


class ProjectOptions(TypedDict, total=False):
    """Options of ``project``; the factor may be ``auto``."""

    factor: float | Literal["auto"] | list[float | str]
    kind: str
    dtype: str
    seed: int | list[int]
    tolerance: float


class ValidateOptions(TypedDict, total=False):
    """Options of ``validate``."""

    neighbours: int
    queries: int
    eps: float


class HeadOptions(TypedDict, total=False):
    """Options of ``train-head``."""

    l2: float | list[float]
    device: str


class SweepOptions(TypedDict, total=False):
    """Options of ``sweep``; lists may be given as text with commas."""

    kinds: str | list[str]
    factors: str | list[float]
    seeds: int
    tolerance: float
    shipped: str
    memory_limit: str
    l2: float | list[float]


class StudentOptions(ComputeOptions, total=False):
    """Options of ``train-student``."""

    student: str
    student_weights: str
    embeddings: str
    budget: float
    factor: float
    kind: str
    image_size: int
    views: int
    pool: bool
    way: str
    loss: str
    targets: str
    kl_weight: float
    ce_weight: float
    decouple: float
    prefixes: str | list[int]
    head: str
    calibrate: bool
    epochs: int
    batch_size: int
    learning_rate: float
    ema: float
    patience: int
    precision: str
    compile: bool
    seed: int
    baselines: bool


class CompareOptions(ComputeOptions, total=False):
    """Options of ``compare-students``; lists may be given as text with commas."""

    methods: str | list[str]
    trials: int
    seeds: int
    finalists: int
    student: str
    student_weights: str
    factor: float
    kind: str
    image_size: int
    views: int
    pool: bool
    epochs: int


class NestOptions(ComputeOptions, total=False):
    """Options of ``nest``; lists may be given as text with commas."""

    student: str
    name: str
    include: str | list[str]
    rank: str
    init: str
    calibration: int
    points: int
    budgets: str | list[float]
    ranks: str | list[int]
    floor: float
    gauges: bool
    own_biases: bool
    targets: str
    weighing: str
    sampling: str
    distill: str
    kl_weight: float
    hint_weight: float
    augment: str
    mix: str
    epochs: int
    batch_size: int
    learning_rate: float
    precision: str
    seed: int


class FrontierOptions(ComputeOptions, total=False):
    """Options of ``frontier``; lists may be given as text with commas."""

    student: str
    name: str
    include: str | list[str]
    rivals: str | list[str]
    budgets: str | list[float]
    points: int
    seeds: int
    rival_seeds: int
    rank_networks: int
    tolerance: float
    repeats: int


class LanguageOptions(ComputeOptions, total=False):
    """Options of ``nest-lm``; lists may be given as text with commas."""

    model: str
    data: str
    text_columns: str
    limit: int
    tokens: int
    name: str
    include: str | list[str]
    init: str
    calibration: int
    points: int
    ranks: str | list[int]
    floor: float
    gauges: bool
    own_biases: bool
    weighing: str
    sampling: str
    distill: str
    label_weight: float
    epochs: int
    batch_size: int
    learning_rate: float
    precision: str
    seed: int
    rivals: str | list[str]
    budgets: str | list[float]
    seeds: int
    rival_seeds: int
    tolerance: float
    repeats: int


class RunOptions(TeacherOptions, total=False):
    """Options of ``run``."""

    teach: bool
    dtype: str
    factor: float | list[float]
    kind: str
    student: str
    epochs: int
    seed: int
    baselines: bool


class ImportOptions(TypedDict, total=False):
    """Options of ``import``."""

    dtype: str
    limit: int
