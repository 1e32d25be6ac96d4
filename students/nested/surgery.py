"""Turn a trained network into a nested one: each chosen layer becomes two factors of its matrix.

At full rank the network gives what it gave, to rounding. Factors are all found before the first
layer is replaced: a surgery that fails changes nothing. They are held beside the layers they
replace until then.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn

from students.errors import nearest
from students.nested.base import NestedLayer
from students.nested.errors import (
    CalibrationError,
    OtherSurgeryError,
    RankError,
    SurgeryError,
)
from students.nested.kinds import matrix_of, nested
from students.nested.layers import NestedConv2d, NestedEmbedding, NestedLinear
from students.nested.presets import usual
from students.nested.selection import replace, select
from students.nested.starts import svd_starts, whitened_starts
from students.nested.surgery_record import Replaced, Surgery, attach_surgery

INITS = ("svd", "whitened")
_KINDS = {NestedLinear: "linear", NestedConv2d: "convolution", NestedEmbedding: "embedding"}

Rank = int | float | str


def nest(
    network: nn.Module,
    include: str | Iterable[str] = "mlp",
    *,
    rank: Rank = "full",
    init: str = "svd",
    calibration: Iterable[Any] = (),
    gauges: bool = True,
    on_layer: Callable[[str], None] = lambda _: None,
) -> Surgery:
    """Nest layers of the network in place, and say which; ``surgery_of`` finds that again later.

    ``include`` as ``select``: the presets "mlp", "attention", "head", "embedding", "convolution"
    and "all", patterns of names, and those after "!" not. ``rank`` is the largest of each layer: a
    number, the same for all but clipped where a matrix has fewer (and that is said); a share in
    (0, 1] of what each matrix has; or "full". ``init`` "svd" is the paper's; "whitened" reads the
    ``calibration`` batches (``second_moments``), once for each 2 GiB of moments. Without ``gauges``
    no layer ever runs, or is counted, in gauge form: of the same FLOPs, ranks are lower and time is
    less. ``on_layer`` hears the name of each layer whose factors are found.

    ``SurgeryError`` as ``select`` and for an ``init`` there is not, ``RankError`` for ranks below 1
    or above all layers', ``CalibrationError`` for batches that are missing or say nothing.
    """
    if init not in INITS:
        raise SurgeryError(f"no start named {init!r}{nearest(init, INITS)}")
    batches = list(calibration)  # a generator can be read but once
    if init == "whitened" and not batches:
        raise CalibrationError(
            "init='whitened' reads calibration batches, and there are none; give some, or take "
            "init='svd'"
        )
    selection = select(network, include)
    plain = {name: usual(layer) for name, layer in selection.layers.items()}
    ranks = _ranks({name: min(matrix_of(layer).shape) for name, layer in plain.items()}, rank)
    if init == "svd":
        starts = svd_starts(plain, ranks)
    else:
        starts = whitened_starts(network, plain, ranks, batches)
    made: dict[str, NestedLayer] = {}
    records: dict[str, Replaced] = {}
    for name, start in starts:
        made[name] = nested(plain[name], start.up, start.down)
        _learn_alike(made[name], selection.layers[name])
        d_in, d_out = made[name].dims
        records[name] = Replaced(
            name=name,
            kind=_KINDS[type(made[name])],
            d_in=d_in,
            d_out=d_out,
            rank=ranks[name],
            init=init,
            rows=start.rows,
            shrunk=start.shrunk,
            asked=rank if isinstance(rank, int) and rank > ranks[name] else 0,
            note=_note(network, name),
            gauges=gauges,
        )
        made[name].gauges = gauges
        on_layer(name)
    for name, layer in made.items():
        replace(network, name, layer)
    surgery = Surgery(layers=tuple(records[name] for name in plain), left_out=selection.left_out)
    attach_surgery(network, surgery)
    return surgery


def nest_like(network: nn.Module, surgery: Surgery) -> None:
    """Redo a surgery on a fresh network that is to load a checkpoint of it.

    No factors are found: they are NaN until the checkpoint is loaded. All or none:
    ``OtherSurgeryError`` for a network without these layers, or with others in their places.
    """
    modules = dict(network.named_modules())
    made = {}
    for each in surgery.layers:
        if each.name not in modules:
            raise OtherSurgeryError(
                f"the surgery is of another network: this one has no {each.name!r}"
                f"{nearest(each.name, modules)}"
            )
        made[each.name] = _unfilled(modules[each.name], each)
    for name, layer in made.items():
        replace(network, name, layer)
    attach_surgery(network, surgery)


def _ranks(full: Mapping[str, int], rank: Rank) -> dict[str, int]:
    """The full rank of each layer's factors."""
    if rank == "full":
        return dict(full)
    if isinstance(rank, float):
        if not 0 < rank <= 1:
            raise RankError(f"a share of the full rank is in (0, 1], got {rank}")
        return {name: max(1, round(rank * most)) for name, most in full.items()}
    if not isinstance(rank, int) or isinstance(rank, bool):
        raise RankError(f"rank is a number, a share in (0, 1] or 'full', got {rank!r}")
    widest = max(full, key=lambda name: full[name])
    if not 1 <= rank <= full[widest]:
        raise RankError(
            f"rank must be in 1..{full[widest]}, the most that a layer has ({widest}), got {rank}"
        )
    return {name: min(rank, most) for name, most in full.items()}


def _unfilled(layer: nn.Module, record: Replaced) -> NestedLayer:
    try:
        plain = usual(layer)
        rows, columns = matrix_of(plain).shape
    except SurgeryError as error:
        raise OtherSurgeryError(
            f"the surgery is of another network: {record.name} there can be nested; {error}"
        ) from error
    d_in, d_out = (rows, columns) if isinstance(plain, nn.Embedding) else (columns, rows)
    if (d_in, d_out) != (record.d_in, record.d_out):
        raise OtherSurgeryError(
            f"the surgery is of another network: {record.name} is {record.d_in} -> {record.d_out} "
            f"there and {d_in} -> {d_out} here"
        )
    weight = layer.get_parameter("weight")
    up, down = (
        torch.full(shape, float("nan"), dtype=weight.dtype, device=weight.device)
        for shape in ((rows, record.rank), (record.rank, columns))
    )
    made = nested(plain, up, down)
    made.gauges = record.gauges
    if record.own:
        made.give_biases(record.own)
    _learn_alike(made, layer)
    return made


def _learn_alike(made: NestedLayer, layer: nn.Module) -> None:
    """Factors learn if the weight does, and the bias if it does."""
    learns = {name: each.requires_grad for name, each in layer.named_parameters(recurse=False)}
    for name, parameter in made.named_parameters(recurse=False):
        parameter.requires_grad_(learns.get(name, learns["weight"]))


def _note(network: nn.Module, name: str) -> str:
    parent = network.get_submodule(name.rpartition(".")[0])
    if not isinstance(parent, nn.TransformerEncoderLayer):
        return ""
    return (
        "torch's fused encoder layer makes a dense matrix of it in evaluation; "
        "torch.backends.mha.set_fastpath_enabled(False) lets it run at its rank"
    )
