"""What a surgery replaced, kept on the network as ``nested_surgery`` beside its state.

Its JSON lies next to the weights: ``nest_like`` makes a fresh network take them. A checkpoint of
another surgery is refused by ``load_state_dict`` itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, final

from torch import Tensor, nn

from students.nested.base import NestedLayer
from students.nested.errors import NestedError, OtherSurgeryError
from students.nested.forms import break_even
from students.nested.initial import FEW
from students.nested.ranks import nested_layers
from students.nested.selection import left_out_as_text, pattern_of

_HEADINGS = ("layers", "", "kind", "d_in", "d_out", "R", "break-even", "FLOPs a row", "at R")


@final
@dataclass(frozen=True, kw_only=True)
class Replaced:
    """One nested layer: the matrix it stands for, its full rank, and how its factors were found.

    ``rows`` calibration inputs were seen, 0 if none were needed; their second moment was ``shrunk``
    so far towards the identity. ``asked`` is the rank asked for, where that is above what the
    matrix has; ``gauges`` whether it may run in gauge form; ``own`` the ranks that have a bias of
    their own.
    """

    name: str
    kind: str  # "linear", "convolution" or "embedding"
    d_in: int
    d_out: int
    rank: int
    init: str
    rows: int = 0
    shrunk: float = 0.0
    asked: int = 0
    note: str = ""
    gauges: bool = True
    own: tuple[int, ...] = ()

    @property
    def break_even(self) -> float:
        """The rank above which two products cost more than one; of an embedding, in parameters."""
        return break_even(self.d_in, self.d_out)

    @property
    def dense_flops(self) -> int:
        """Of one row of inputs, before: a table costs none."""
        return 0 if self.kind == "embedding" else 2 * self.d_in * self.d_out

    @property
    def flops(self) -> int:
        """Of one row of inputs at the full rank, in two products."""
        read = 0 if self.kind == "embedding" else self.d_in
        return 2 * self.rank * (read + self.d_out)

    @property
    def few(self) -> bool:
        """Whether there were too few rows for the covariance of what the matrix reads."""
        return 0 < self.rows < FEW * self.read

    @property
    def read(self) -> int:
        """How many directions of its inputs the matrix reads: all tokens, of a table."""
        return self.d_in if self.kind == "embedding" else min(self.d_in, self.d_out)

    @property
    def kin(self) -> tuple[Any, ...]:
        """Equal for layers of the same place in different blocks, if they are alike."""
        return pattern_of(self.name), self.kind, self.d_in, self.d_out, self.rank, self.init


@final
@dataclass(frozen=True, kw_only=True)
class Surgery:
    """All nested layers of a network in their order, and what was meant and left out, with why."""

    layers: tuple[Replaced, ...]
    left_out: Mapping[str, str]

    @property
    def gauges(self) -> bool:
        """Whether any layer may run in gauge form."""
        return any(each.gauges for each in self.layers)

    @property
    def has_own(self) -> bool:
        """Whether ranks have biases of their own."""
        return any(each.own for each in self.layers)

    def as_text(self) -> str:
        """A table with a line for layers that are alike, then what was left out."""
        before = sum(each.d_in * each.d_out for each in self.layers)
        after = sum(each.rank * (each.d_in + each.d_out) for each in self.layers)
        inits = "/".join(dict.fromkeys(each.init for each in self.layers))
        alike: dict[tuple[Any, ...], list[Replaced]] = {}
        for each in self.layers:
            alike.setdefault(each.kin, []).append(each)
        table = [_HEADINGS, *(_row(some) for some in alike.values())]
        head = (
            f"nested {len(self.layers)} layers, init {inits}: {before:,} numbers of their matrices "
            f"are {after:,} in factors"
        )
        notes = [f"{_named(some)}: {text}" for some in alike.values() for text in _notes(some)]
        if more := sum(each.d_out * len(each.own) for each in self.layers):
            notes.append(f"ranks that are taught have biases of their own: {more:,} numbers")
        return "\n".join([head, *_aligned(table), *notes, *left_out_as_text(self.left_out)])

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        layers = [asdict(each) for each in self.layers]
        for each in layers:
            if not each["own"]:
                del each["own"]  # as it was before there were any
        return {"layers": layers, "left_out": dict(self.left_out)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Surgery":
        """Undo ``to_json``; ``NestedError`` for what is no record of a surgery."""
        try:
            layers = tuple(
                Replaced(**{**each, "own": _own(each.get("own", ()), each["rank"])})
                for each in data["layers"]
            )
            return cls(layers=layers, left_out=dict(data["left_out"]))
        except (KeyError, TypeError, ValueError) as error:
            raise NestedError(f"this is no record of a surgery: {error}") from error


def surgery_of(network: nn.Module) -> Surgery:
    """What was replaced in this network; ``NestedError`` where no record of it is.

    Wrappers may stand around the network. Which ranks have biases of their own is asked of the
    layers.
    """
    for module in network.modules():
        surgery = module.__dict__.get("nested_surgery")
        if isinstance(surgery, Surgery):
            named = module.named_modules()
            own = {name: of.own_ranks for name, of in named if isinstance(of, NestedLayer)}
            layers = (replace(each, own=own.get(each.name, each.own)) for each in surgery.layers)
            return replace(surgery, layers=tuple(layers))
    raise NestedError("the network carries no record of a surgery; nest it first")


def attach_surgery(network: nn.Module, surgery: Surgery) -> None:
    """Keep the record on the network, together with that of earlier surgeries.

    A path that it followed is forgotten: it knows no ranks of the layers that are new.
    """
    for followed in ("nested_path", "nested_norms"):
        network.__dict__.pop(followed, None)
    held = network.__dict__.get("nested_surgery")
    if held is None:
        network.register_load_state_dict_pre_hook(_check_state)  # type: ignore[no-untyped-call]
        network.nested_surgery = surgery  # type: ignore[assignment]
        return
    found = {each.name: each for each in (*held.layers, *surgery.layers)}
    ordered = tuple(found[name] for name in nested_layers(network))
    left_out = {**held.left_out, **surgery.left_out}
    network.nested_surgery = Surgery(
        layers=ordered, left_out={n: why for n, why in left_out.items() if n not in found}
    )  # type: ignore[assignment]


def _check_state(
    network: nn.Module,
    state: Mapping[str, Tensor],
    prefix: str,
    *_: Any,
) -> None:
    """``OtherSurgeryError`` for a state whose nested layers are others; absent ones are torch's."""
    if "nested_surgery" not in network.__dict__:  # a plain copy of one that has it
        return
    layers = nested_layers(network)
    for name, layer in layers.items():
        where = prefix + name
        if f"{where}.weight" in state:
            raise OtherSurgeryError(
                f"the checkpoint is of another surgery: {name} is nested here and plain there"
            )
        for part in ("up", "down"):
            saved, own = state.get(f"{where}.{part}"), getattr(layer, part)
            if saved is not None and saved.shape != own.shape:
                raise OtherSurgeryError(
                    f"the checkpoint is of another surgery: {part} of {name} is "
                    f"{tuple(saved.shape)} there and {tuple(own.shape)} here"
                )
        there, here = _own_there(state, where), list(layer.own_ranks)
        if f"{where}.up" in state and there != here:
            raise OtherSurgeryError(
                f"the checkpoint is of another surgery: ranks {there} of {name} have biases of "
                f"their own there, and {here} here"
            )
    for key in state:
        name = key.removeprefix(prefix).removesuffix(".up")
        pair = key.startswith(prefix) and key.endswith(".up") and f"{key[:-3]}.down" in state
        if pair and name not in layers:
            raise OtherSurgeryError(
                f"the checkpoint is of another surgery: {name} is nested there and not here"
            )


def _own(ranks: Sequence[int], most: int) -> tuple[int, ...]:
    """The ranks of biases, as a layer has them; ``ValueError`` for others."""
    found = tuple(ranks)
    falling = sorted({rank for rank in found if type(rank) is int and 1 <= rank <= most})[::-1]
    if list(found) != falling:
        raise ValueError(f"ranks {found} of biases are not falling ones in 1..{most}")
    return found


def _own_there(state: Mapping[str, Tensor], where: str) -> list[int]:
    """The ranks that have biases of their own in a state; zeros for those it does not name."""
    told, biases = (state.get(f"{where}.{part}") for part in ("_extra_state", "own_biases"))
    named: list[int] = [] if told is None else told.flatten()[1:].tolist()
    return named + [0] * ((0 if biases is None else len(biases)) - len(named))


def _named(alike: Sequence[Replaced]) -> str:
    return pattern_of(alike[0].name) if alike[1:] else alike[0].name


def _row(alike: Sequence[Replaced]) -> tuple[str, ...]:
    one = alike[0]
    return (
        *(_named(alike), f"x {len(alike)}" if alike[1:] else "", one.kind),
        *(f"{one.d_in:,}", f"{one.d_out:,}", f"{one.rank:,}", f"{one.break_even:,.0f}"),
        *(f"{one.dense_flops:,}", f"{one.flops:,}"),
    )


def _notes(alike: Sequence[Replaced]) -> list[str]:
    """What a user should know of layers that are alike."""
    notes = list(dict.fromkeys(each.note for each in alike if each.note))
    if alike[0].asked:
        notes.append(f"rank {alike[0].asked} was asked for, and it has only {alike[0].rank}")
    few = [each for each in alike if each.few]
    if few:
        rows, shrunk = min(each.rows for each in few), max(each.shrunk for each in few)
        notes.append(
            f"only {rows:,} calibration rows for the {few[0].read:,} directions that it reads; "
            f"their covariance is shrunk by {shrunk:.2f}"
        )
    return notes


def _aligned(table: list[tuple[str, ...]]) -> list[str]:
    """Words to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if at < 3 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]
