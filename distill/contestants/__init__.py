"""Who takes part in a frontier: a nested network, the dense one, and rivals by name."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import final

from distill.contest import Contestant
from distill.contestants.ground import Ground
from distill.contestants.nested import Nested, Whole, dense_of
from distill.contestants.rivals import OneRank, Truncated
from distill.contestants.widths import Width
from distill.findings import LONGER
from students.nested import SurgeryError, count_flops
from students.nested.rivals import block_list, first_half, half_of
from students.nested.widths import mlp_blocks

__all__ = ["RIVALS", "Ground", "Many", "Nested", "dense_of", "why_not"]


@final
@dataclass(frozen=True, kw_only=True)
class Many:
    """How many seeds a rival that is taught has, and networks of one rank there are."""

    seeds: int
    networks: int


def _svd(ground: Ground, many: Many) -> Contestant:
    del many
    about = "the dense network's matrices truncated at the nested one's ranks; nothing is taught"
    return Truncated(ground=ground, init="svd", name="svd", about=about)


def _whitened(ground: Ground, many: Many) -> Contestant:
    del many
    about = "the same, truncated where it matters least to calibration inputs (SVD-LLM)"
    return Truncated(ground=ground, init="whitened", name="whitened", about=about)


def _one_rank(ground: Ground, many: Many) -> Contestant:
    return OneRank(ground=ground, networks=many.networks)


def _width(ground: Ground, many: Many) -> Contestant:
    return Width(ground=ground, seeds=many.seeds)


def _half(ground: Ground, many: Many) -> Contestant:
    @cache
    def pairs() -> dict[str, str]:
        return half_of(ground.dense, ground.example)

    return Whole(
        ground=ground,
        name="half",
        about=f"the first half of the blocks in {block_list(ground.dense)}, taught as all others",
        build=lambda dense: first_half(dense)[0],
        seeds=many.seeds,
        counterpart=lambda layer: pairs().get(layer, ""),
    )


def _longer(ground: Ground, many: Many) -> Contestant:
    return Whole(
        ground=ground,
        name=LONGER,
        about="the dense network, taught as all others",
        build=copy.deepcopy,
        seeds=many.seeds,
        timed=False,
    )


def why_not(name: str, ground: Ground) -> str:
    """Why a rival cannot be made of this network, or nothing."""
    try:
        if name == "width":
            mlp_blocks(ground.dense)
        if name == "half":
            _check_half(ground)
    except SurgeryError as error:
        return str(error)
    return ""


def _check_half(ground: Ground) -> None:
    """``SurgeryError`` where what follows the blocks cannot read what half of them give."""
    network, blocks = first_half(ground.dense)
    try:
        count_flops(network, ground.example)
    except RuntimeError as error:  # torch's, of shapes
        raise SurgeryError(
            f"what follows {blocks} does not fit the first half of it, as in networks that narrow"
        ) from error


RIVALS: dict[str, Callable[[Ground, Many], Contestant]] = {
    "svd": _svd,
    "whitened": _whitened,
    "one-rank": _one_rank,
    "width": _width,
    "half": _half,
    LONGER: _longer,
}
