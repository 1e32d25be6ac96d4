"""Which layers of a network a surgery takes: by preset, by pattern, and what must be left alone.

A word of ``include`` is a preset (``students.nested.presets``) or a pattern of names as of
``fnmatch`` (``*`` passes dots); after ``!`` it takes back what the others found.
"""

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import final

from torch import Tensor, nn

from students.errors import MOST_NAMED
from students.nested.base import NestedLayer
from students.nested.errors import SurgeryError
from students.nested.kinds import refuse_unnestable, refuse_wrapped
from students.nested.presets import PRESETS, holds_a_matrix, usual

_NEAREST = 3


@final
@dataclass(frozen=True, kw_only=True)
class Selection:
    """Layers to nest by name, in the network's order, and why others that were meant are not."""

    layers: Mapping[str, nn.Module]
    left_out: Mapping[str, str]


def select(network: nn.Module, include: str | Iterable[str]) -> Selection:
    """Find the layers that ``include`` means.

    What cannot be nested is left out if a preset or a pattern found it. ``SurgeryError`` if it was
    asked for by its very name, if nothing remains, for a word that finds nothing, and for layers
    that are nested already, quantised, tied to others, or hold NaN.
    """
    words = (include,) if isinstance(include, str) else tuple(include)
    layers = {n: m for n, m in network.named_modules() if n and holds_a_matrix(m)}
    meant: set[str] = set()
    for word in words:
        if not word.startswith("!"):
            meant |= _found(word, layers, network)
    for word in words:
        if word.startswith("!"):
            meant -= _found(word[1:], layers, network)
    holders = _holders(network)
    taken: dict[str, nn.Module] = {}
    left_out: dict[str, str] = {}
    for name in (name for name in layers if name in meant):
        _refuse(name, layers[name], holders)
        why = _unnestable(network, name, layers[name])
        if not why:
            taken[name] = layers[name]
        elif name in words:
            raise SurgeryError(f"{name}: {why}")
        else:
            left_out[name] = why
    if not taken:
        whys = [f"{name}: {why}" for name, why in left_out.items()]
        raise SurgeryError(
            f"nothing is left to nest of what include={words} means"
            + (f" ({len(whys)} left out; {whys[0]})" if whys else "")
        )
    return Selection(layers=taken, left_out=left_out)


def pattern_of(name: str) -> str:
    """The name with ``*`` for its numbers: one pattern for the layers of all blocks."""
    return re.sub(r"(?<![^.])\d+(?![^.])", "*", name)


def _found(word: str, layers: Mapping[str, nn.Module], network: nn.Module) -> set[str]:
    if word in PRESETS:
        found = {name for name, layer in layers.items() if PRESETS[word](name, layer)}
    else:
        found = {name for name in layers if fnmatchcase(name, word)}
    if found:
        return found
    alike = Counter(map(pattern_of, layers))
    patterns = list(dict.fromkeys(p if alike[p := pattern_of(n)] > 1 else n for n in layers))
    # a preset spelled as it should be is no slip of the pen: what helps is what there is
    known = [*PRESETS, *patterns]
    near = [] if word in PRESETS else difflib.get_close_matches(word, known, n=_NEAREST, cutoff=0.5)
    told = near or patterns[:MOST_NAMED]
    raise SurgeryError(
        f"include={word!r} finds no layer of this {type(network).__name__}; "
        f"{'nearest' if near else 'there are'}: {', '.join(told) or 'none'}"
    )


def _holders(network: nn.Module) -> dict[int, list[str]]:
    """The names of each parameter."""
    holders: dict[int, list[str]] = {}
    for name, parameter in network.named_parameters(remove_duplicate=False):
        holders.setdefault(id(parameter), []).append(name)
    return holders


def _refuse(name: str, layer: nn.Module, holders: Mapping[int, list[str]]) -> None:
    """``SurgeryError`` for what the user must decide on."""
    if isinstance(layer, NestedLayer):
        raise SurgeryError(f"{name} is nested already; leave it out with '!{name}' in include")
    weight = layer.weight
    if _quantised(weight):
        kind = weight.dtype if isinstance(weight, Tensor) else type(layer).__name__
        raise SurgeryError(
            f"{name}: a quantised weight ({kind}) cannot be nested; nest the network before it is "
            "quantised"
        )
    for own, parameter in layer.named_parameters(recurse=False):
        others = [each for each in holders[id(parameter)] if each != f"{name}.{own}"]
        if others:
            raise SurgeryError(
                f"{name}.{own} is tied to {', '.join(others)}, and nesting would part them; leave "
                f"it out with '!{name}' in include, or untie them first"
            )
    if isinstance(weight, Tensor) and not weight.isfinite().all():
        raise SurgeryError(f"{name}: NaN or infinity among its weights; nest a sound network")


def _quantised(weight: object) -> bool:
    if not isinstance(weight, Tensor):
        return True  # packed: a method unpacks it
    plain = type(weight) in (Tensor, nn.Parameter) and type(weight.data) is Tensor
    return not (plain and weight.is_floating_point() and weight.element_size() > 1)


def _unnestable(network: nn.Module, name: str, layer: nn.Module) -> str:
    """Why it cannot be nested, or nothing."""
    parent = network.get_submodule(name.rpartition(".")[0])
    if isinstance(parent, nn.MultiheadAttention):
        return "torch's own MultiheadAttention reads its weight instead of calling it"
    if isinstance(layer, nn.Conv2d) and layer.groups > 1:
        return "depthwise or in groups, it is no product of two small matrices"
    try:
        refuse_wrapped(layer)
        refuse_unnestable(usual(layer))
    except SurgeryError as error:
        return str(error)
    return ""


def left_out_as_text(left_out: Mapping[str, str]) -> list[str]:
    """A line for each reason and pattern of names."""
    counted = Counter((pattern_of(name), why) for name, why in left_out.items())
    return [
        f"left out: {name}{f' ({count} layers)' if count > 1 else ''}: {why}"
        for (name, why), count in counted.items()
    ]


def replace(network: nn.Module, name: str, layer: nn.Module) -> None:
    """Put a layer in the place of this name."""
    parent, _, last = name.rpartition(".")
    setattr(network.get_submodule(parent), last, layer)
