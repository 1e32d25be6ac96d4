"""What all nested layers share: a default rank, the ranks a request asks for, prepared forms.

A nested layer stands for all matrices W_r = B[:, :r] A[:r, :] with r in 1..R: ``down`` is A
(R, d_in) and ``up`` is B (d_out, R). The image of W_r lies in that of W_{r+1}. Any r runs by
slices of the two, which copy nothing and give every row of A and column of B a gradient, of zeros
beyond r: data-parallel training finds no unused parameters. Beyond break-even, and of rows enough,
W_r is made on the way and applied as one matrix (not where a compiler looks on): at full rank a
square layer would take twice the time of the dense one else.

A rank may have a bias of its own beside the shared one, as slimmable networks have norms of each
width's own (arXiv 1812.08928): the subspaces stay nested, and no rank costs more.

(Rauba & van der Schaar, Nested Subspace Networks, arXiv 2509.17874.)
"""

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn
from torch.fx import Proxy

from students.nested.errors import RankError
from students.nested.forms import Form, break_even, cheapest_form, form_cost
from students.nested.kept import Kept, marks_of, when_they_learn

_Layer = TypeVar("_Layer", bound="NestedLayer")

# By layer, not by name: two networks in one request never meet. A thread begins without any.
ASKED: ContextVar[Mapping["NestedLayer", int] | None] = ContextVar("ranks asked for", default=None)
# Layers whose weight other code reads, while costs are counted: a product that no dense layer has.
READING: ContextVar[list["NestedLayer"] | None] = ContextVar("weights read", default=None)


def _traced(inputs: Any) -> bool:
    """Whether a compiler or exporter looks on, for which no number of rows may decide anything."""
    return torch.compiler.is_compiling() or isinstance(inputs, Proxy)


class NestedLayer(nn.Module, ABC):
    """``rank`` is what it runs at unless the request asks for another; it starts at R.

    It is part of the state, as a tensor: what is saved at a rank comes back at that rank.
    ``gauges`` says whether it may run, and so be counted, in gauge form; a surgery's record keeps
    that.
    """

    LIKE: ClassVar[tuple[str, ...]]  # names of the plain layer's settings, which it has too

    down: nn.Parameter
    up: nn.Parameter
    bias: nn.Parameter | None
    own_biases: nn.Parameter | None  # (ranks, d_out), of …
    own_ranks: tuple[int, ...] = ()  # the highest first; none of layers pickled before there were

    def __init__(
        self, *, rows: int, columns: int, full_rank: int, spread: float, biased: bool
    ) -> None:
        """Factors of random numbers, such that those of W_R have the standard deviation given."""
        super().__init__()
        if full_rank < 1:
            raise RankError(f"the full rank must be at least 1, got {full_rank}")
        self.full_rank = full_rank
        self.gauges = True
        self._rank = full_rank
        self._break_even = break_even(columns, rows)
        self._prepared: dict[int, Kept] = {}
        self._watched: list[Tensor] = []
        self.up = nn.Parameter(torch.randn(rows, full_rank) / full_rank**0.5)
        self.down = nn.Parameter(torch.randn(full_rank, columns) * spread)
        self.register_parameter("bias", nn.Parameter(torch.zeros(rows)) if biased else None)
        self.register_parameter("own_biases", None)

    # --- what each kind says ----------------------------------------------------------------------

    @property
    @abstractmethod
    def dims(self) -> tuple[int, int]:
        """(d_in, d_out) of the matrix."""

    @abstractmethod
    def _shaped(self, matrix: Tensor) -> Tensor:
        """Lay the matrix out as the plain layer's weight."""

    @abstractmethod
    def _plain(self, up: Tensor, down: Tensor, form: Form) -> nn.Module: ...

    @abstractmethod
    def _factored(self, inputs: Tensor, rank: int) -> Tensor: ...

    @abstractmethod
    def _whole(self, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor: ...

    @abstractmethod
    def _positions(self, inputs: Tensor) -> int:
        """How often these inputs are multiplied with the matrix."""

    def _hold(self, up: Tensor, down: Tensor, bias: Tensor | None) -> None:
        """Put these tensors in the place of the parameters."""
        self.up, self.down = nn.Parameter(up), nn.Parameter(down)
        if bias is not None:
            self.bias = nn.Parameter(bias)

    def _factors(self, rank: int) -> tuple[Tensor, Tensor]:
        """B_r and A_r; the whole parameters at R, as a slice's gradient is filled with zeros."""
        if rank == self.full_rank:
            return self.up, self.down
        return self.up[:, :rank], self.down[:rank]

    # --- ranks ------------------------------------------------------------------------------------

    @property
    def rank(self) -> int:
        """The default rank; ``RankError`` for one outside 1..R."""
        return self._rank

    @rank.setter
    def rank(self, rank: int) -> None:
        self._rank = self.checked(rank)

    def checked(self, rank: int) -> int:
        """Give the rank back if it is one of 1..R, else raise ``RankError``."""
        whole = hasattr(rank, "__index__") and not isinstance(rank, bool)
        if not whole or not 1 <= rank <= self.full_rank:
            raise RankError(f"the rank must be in 1..{self.full_rank}, got {rank!r}")
        return operator.index(rank)

    @property
    def rank_now(self) -> int:
        """What a forward pass here and now runs at."""
        asked = ASKED.get()
        return self._rank if asked is None else asked.get(self, self._rank)

    @property
    def weight(self) -> Tensor:
        """W at the rank of here and now: a product, for code that reads a layer's weight."""
        reading = READING.get()
        if reading is not None:
            reading.append(self)
        return self.weight_at(self.rank_now)

    # --- biases -----------------------------------------------------------------------------------

    def give_biases(self, ranks: Iterable[int]) -> None:
        """Give each of these ranks a bias of its own, of zeros, beside the one that all share.

        They are one parameter, ``own_biases``, and replace those there are, with what they learned.
        A rank in between takes that of the next higher one, a rank above all of them that of the
        highest. Code that reads a layer's bias itself does not see them: of a network's layers,
        ``students.nested.give_biases`` knows some that are read so. ``RankError`` for a rank
        outside 1..R, or for none.
        """
        chosen = tuple(sorted({self.checked(rank) for rank in ranks}, reverse=True))
        if not chosen:
            raise RankError("biases of their own are of some ranks, and none is named")
        self._prepared = {}
        self.own_ranks = chosen
        self.own_biases = nn.Parameter(
            self.up.new_zeros(len(chosen), self.dims[1]), requires_grad=self.up.requires_grad
        )

    def bias_at(self, rank: int) -> Tensor | None:
        """The bias (d_out,) at a rank: the shared one, and what the rank has of its own."""
        if not self.own_ranks or self.own_biases is None:  # they are given together
            return self.bias
        higher = sum(each >= rank for each in self.own_ranks)
        own = self.own_biases[max(0, higher - 1)]
        return own if self.bias is None else self.bias + own

    # --- running ----------------------------------------------------------------------------------

    def forward(self, inputs: Tensor) -> Tensor:
        """As the plain layer with the weight W_r.

        A prepared form is used without gradients, in evaluation and outside compilers only, and
        not once a parameter has changed (``prepare``).
        """
        asked = ASKED.get()
        rank = self._rank if asked is None else asked.get(self, self._rank)
        if (
            self._prepared
            and not self.training
            and not torch.is_grad_enabled()
            and not torch.compiler.is_compiling()
        ):
            kept = self._prepared.get(rank)
            if kept is not None and kept.holds(self._parameters):
                found: Tensor = kept.plain.forward(inputs)  # hooks are the nested layer's own
                return found
        if (
            rank > self._break_even
            and not _traced(inputs)
            and self._pays(self._positions(inputs), rank)
        ):
            up, down = self._factors(rank)
            return self._whole(inputs, self._shaped(up @ down), self.bias_at(rank))
        return self._factored(inputs, rank)

    def _pays(self, positions: int, rank: int) -> bool:
        """Whether W_r, its making included, takes fewer FLOPs than two products; backward too."""
        d_in, d_out = self.dims
        spared = rank * (d_in + d_out) - d_in * d_out
        return positions * spared > rank * d_in * d_out

    def weight_at(self, rank: int) -> Tensor:
        """W_r as the plain layer holds it; gradients flow. ``RankError`` outside 1..R."""
        up, down = self._factors(self.checked(rank))
        with self._exactly():
            return self._shaped(up @ down)

    def plain(self, rank: int, form: Form) -> nn.Module:
        """Make a layer of torch's that does the same at one rank, on tensors of its own.

        It has the plain layer's settings by their names. ``RankError`` outside 1..R, and for a
        gauge of a rank that fills the matrix.
        """
        if form == "gauge" and rank >= min(self.dims):
            raise RankError(f"rank {rank} leaves a gauge nothing to spare; take the dense form")
        up, down = self._factors(self.checked(rank))
        with self._exactly():
            made = self._plain(up, down, form)
        for name in self.LIKE:
            if not hasattr(made, name):
                setattr(made, name, getattr(self, name))
        return made.train(self.training)

    def _exactly(self) -> torch.autocast:
        """Weights are not rounded, whatever surrounds their making: they may be kept."""
        return torch.autocast(self.up.device.type, enabled=False)

    # --- forms ------------------------------------------------------------------------------------

    def cheapest(self, rank: int, *, gauges: bool = True) -> Form:
        """Give the form of the fewest FLOPs at this rank, a gauge only if both allow them."""
        return cheapest_form(*self.dims, rank, gauges=gauges and self.gauges)

    def cost(self, rank: int, form: Form) -> int:
        """FLOPs of one row of inputs (of one output position of a convolution)."""
        return form_cost(*self.dims, rank, form)

    def cost_unprepared(self, rank: int, rows: int) -> int:
        """FLOPs of a call on so many rows of inputs, or output positions, where nothing is kept."""
        if rank > self._break_even and self._pays(rows, rank):
            d_in, d_out = self.dims
            return 2 * d_in * d_out * (rank + rows)
        return rows * self.cost(rank, "factored")

    @torch.no_grad()
    def prepare(self, ranks: set[int]) -> dict[int, Form]:
        """Keep the cheapest form of these ranks and of no others; say which it is of each.

        Training, changed parameters and moves to another device or dtype end that. Unseen go a
        fused optimiser's step with gradients that no backward pass left after this, writes into a
        parameter's memory (``.data``, ``.numpy()``), and masks of pruning. Prepare after them.
        ``RankError`` for a rank outside 1..R.
        """
        forms = {rank: self.cheapest(self.checked(rank)) for rank in sorted(ranks)}
        marks = marks_of(self._parameters)
        made: dict[int, Kept] = {}
        for rank, form in forms.items():
            old = self._prepared.get(rank)
            if old is None or not old.holds(self._parameters):
                old = Kept(self._kept(rank, form), marks)
            made[rank] = old
        when_they_learn(self._parameters, self._watched, self.unprepare)
        self._prepared = made
        return forms

    def _kept(self, rank: int, form: Form) -> nn.Module:
        """What runs where the form of this rank is kept."""
        return self.plain(rank, form).requires_grad_(False).eval()

    def unprepare(self) -> None:
        """Forget all kept forms, and free their memory."""
        self._prepared = {}

    @property
    def prepared(self) -> tuple[int, ...]:
        """The ranks of kept forms that are still true."""
        return tuple(rank for rank, kept in self._prepared.items() if kept.holds(self._parameters))

    def train(self: _Layer, mode: bool = True) -> _Layer:
        """As torch; what is prepared is forgotten when training begins."""
        if mode:
            self._prepared = {}
        return super().train(mode)

    def _apply(self: _Layer, fn: Callable[..., Any], recurse: bool = True) -> _Layer:
        self._prepared = {}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def extra_repr(self) -> str:
        """Its settings, its rank and the largest."""
        settings = [f"{name}={getattr(self, name)}" for name in self.LIKE]
        return ", ".join([*settings, f"rank={self.rank} of {self.full_rank}"])

    # --- state ------------------------------------------------------------------------------------

    def get_extra_state(self) -> Tensor:
        """The default rank, as a tensor so that safetensors can hold it.

        Ranks that have biases of their own, if any, stand behind it.
        """
        told = [self._rank, *self.own_ranks] if self.own_ranks else self._rank
        return torch.tensor(told, device="cpu")

    def set_extra_state(self, state: Tensor) -> None:
        """Take a saved rank; ``RankError`` where it is above R, or biases are of other ranks."""
        rank, *own = state.flatten().tolist()
        if tuple(own) != self.own_ranks:
            raise RankError(
                f"the state has biases of the ranks' own for {own}, and the layer for "
                f"{list(self.own_ranks)}"
            )
        self.rank = rank

    def __getstate__(self) -> dict[str, Any]:
        """Copies begin without prepared forms: their parameters' versions begin anew."""
        return {**self.__dict__, "_prepared": {}, "_watched": []}
