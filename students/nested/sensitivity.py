"""How much each rank of each layer spoils, measured with all other layers at their full ranks.

Layers times ranks forward passes a calibration batch, of which a few hundred rows say enough. The
full network's outputs are kept for one batch at a time, whatever the number of batches.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from typing import Any

from torch import Tensor, nn

from students.errors import nearest
from students.nested.calibration import MASK, call, in_evaluation
from students.nested.errors import CalibrationError, RankError
from students.nested.objective import soft_loss
from students.nested.ranks import nested_layers, using_ranks

# (outputs, the full network's outputs, batch) -> the rise of the loss, averaged over rows
Damage = Callable[[Any, Any, Any], Tensor]

# (place of the batch, layer, rank) -> the damage there
Tried = MutableMapping[tuple[int, str, int], float]


def divergence(outputs: Any, full: Any, batch: Any) -> Tensor:
    """KL(softmax(full logits) ‖ softmax(logits)), averaged over rows or positions of texts.

    Outputs are logits, or hold them as ``logits``. Positions that the batch's ``attention_mask``
    hides do not count in logits of its shape.
    """
    found, aim = logits_of(outputs), logits_of(full)
    mask = batch.get(MASK) if isinstance(batch, Mapping) else None
    counted = None if mask is None or mask.shape != found.shape[:-1] else mask.bool()
    return soft_loss(found.float(), aim.float(), counted, temperature=1.0)


def logits_of(outputs: Any) -> Tensor:
    """The tensor itself, or what a mapping holds as ``logits``."""
    return outputs if isinstance(outputs, Tensor) else outputs["logits"]


def sensitivities(
    network: nn.Module,
    batches: Iterable[Any],
    ranks: Mapping[str, Iterable[int]],
    *,
    damage: Damage = divergence,
    tried: Tried | None = None,
    on_forward: Callable[[int], None] = lambda _: None,
) -> dict[str, dict[int, float]]:
    """Damage of each rank of each layer named, never below 0, by layer and rank.

    Full ranks do none and are not measured. Batches, read once, are what the network takes, and
    weigh as they have rows. What ``tried`` holds, of the same network, batches and loss, is not
    measured again, and it is given each damage as that is found. ``on_forward`` hears of each
    forward pass, as one more, and of those that are not needed any more.

    ``RankError`` for layers and ranks there are not; ``CalibrationError`` for no batches and, by
    its name, for a layer whose damage is NaN or infinite.
    """
    layers = nested_layers(network)
    full = {name: layer.full_rank for name, layer in layers.items()}
    wanted = [(name, rank) for name, of in _checked(full, ranks) for rank in of]
    tried = {} if tried is None else tried
    sums: defaultdict[tuple[str, int], float] = defaultdict(float)
    rows = 0
    with in_evaluation(network):
        for place, batch in enumerate(batches):
            left = [(name, rank) for name, rank in wanted if (place, name, rank) not in tried]
            if left:
                with using_ranks(network, full):
                    aim = call(network, batch)
            on_forward(1 + len(wanted) - len(left))
            for name, rank in left:
                with using_ranks(network, {**full, name: rank}):
                    found = damage(call(network, batch), aim, batch).item()
                if not math.isfinite(found):
                    raise CalibrationError(
                        f"{name}: the loss at rank {rank} is {found} on calibration batches; look "
                        f"at the batches, and at the weights of this layer"
                    )
                tried[place, name, rank] = found
                on_forward(1)
            size = _rows(batch)
            rows += size
            for name, rank in wanted:
                sums[name, rank] += tried[place, name, rank] * size
    if not rows:
        raise CalibrationError("there are no calibration batches")
    measured: dict[str, dict[int, float]] = {name: {full[name]: 0.0} for name in ranks}
    for name, rank in wanted:
        measured[name][rank] = max(0.0, sums[name, rank] / rows)
    return measured


def _checked(
    full: Mapping[str, int], ranks: Mapping[str, Iterable[int]]
) -> Iterable[tuple[str, list[int]]]:
    """Ranks to measure by layer: those below the full one."""
    for name, of in ranks.items():
        if name not in full:
            raise RankError(f"no nested layer is called {name!r}{nearest(name, full)}")
        yield name, sorted({rank for rank in of if rank != full[name]}, reverse=True)


def _rows(batch: Any) -> int:
    """Rows of the first tensor of a batch."""
    while not isinstance(batch, Tensor):
        batch = next(iter(batch.values() if isinstance(batch, Mapping) else batch))
    return len(batch)
