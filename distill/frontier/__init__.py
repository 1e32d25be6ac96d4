"""The arithmetic of frontiers: areas under curves of accuracy, falls, and the budget to pick."""

from distill.frontier.area import area_behind, area_weights, areas, common_floor, falls
from distill.frontier.picking import Choice, pick
from distill.frontier.spread import spread

__all__ = [
    "Choice",
    "area_behind",
    "area_weights",
    "areas",
    "common_floor",
    "falls",
    "pick",
    "spread",
]
