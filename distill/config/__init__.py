"""One experiment as frozen data. Every setting has one default, in a table of this package."""

from distill.config.experiment import (
    DIGITS,
    STUDENT,
    Config,
    fingerprint,
    load_config,
    settle,
    write_config,
)
from distill.config.learners import (
    CompareConfig,
    FrontierConfig,
    LanguageConfig,
    NestConfig,
    StudentConfig,
)
from distill.config.sections import (
    ComputeConfig,
    DataConfig,
    ExtractConfig,
    HeadConfig,
    ProjectConfig,
    SweepConfig,
    TeachConfig,
    TeacherConfig,
    ValidateConfig,
    ViewsConfig,
)
from distill.config.values import ConfigError, Section

__all__ = [
    "DIGITS",
    "STUDENT",
    "CompareConfig",
    "ComputeConfig",
    "Config",
    "ConfigError",
    "DataConfig",
    "ExtractConfig",
    "FrontierConfig",
    "HeadConfig",
    "LanguageConfig",
    "NestConfig",
    "ProjectConfig",
    "Section",
    "StudentConfig",
    "SweepConfig",
    "TeachConfig",
    "TeacherConfig",
    "ValidateConfig",
    "ViewsConfig",
    "fingerprint",
    "load_config",
    "settle",
    "write_config",
]
