"""The arithmetic of frontiers: areas under curves of accuracy, falls, and the budget to pick."""

from distill.frontiers.area import (
    area_behind,
    area_weights,
    areas,
    common_floor,
    falls,
    rows_behind,
)
from distill.frontiers.picking import Choice, pick
from distill.frontiers.spread import spread

__all__ = [
    "Choice",
    "area_behind",
    "area_weights",
    "areas",
    "common_floor",
    "falls",
    "pick",
    "rows_behind",
    "spread",
]
