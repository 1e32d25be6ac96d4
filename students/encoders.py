"""Student networks: a prepared batch -> (rows, dim_out), built by name with random weights.

``timm/<name>`` any timm network, its keyword arguments as options · ``hf/<model type>`` a small
transformers encoder from config values, or ``hf/<folder>`` with a ``config.json`` ·
``static/<dim>`` mean-pooled token embeddings · ``module:factory`` one's own. A new family is a
module (or a function) and a line in ``FAMILIES``.
"""

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from students.blueprint import Blueprint
from students.errors import StudentError, UnknownStudentError, first_line, nearest
from students.static import static_body
from students.weights import load_weights

Prepared = Mapping[str, Tensor]


class Encoder(nn.Module):
    """``scale`` · (body, then neck): rows of ``dim_out`` numbers of either sign.

    A network that ends in a pooled feature gets a linear neck: such a feature is often
    non-negative, and a projected target is not. Without one (``dim_out`` 0 in its blueprint) the
    rows are the pooled feature itself, and ``dim_out`` is its width. ``scale`` is the size of the
    targets: the body learns numbers of size about one.
    """

    scale: Tensor
    blueprint: Blueprint | None = None  # that it was built from

    def __init__(self, body: nn.Module, neck: nn.Module, *, dim_out: int) -> None:
        super().__init__()
        self.body = body
        self.neck = neck
        self.dim_out = dim_out
        self.register_buffer("scale", torch.ones(()))

    def forward(self, prepared: Prepared) -> Float[Tensor, "rows dim_out"]:
        """Rows of the batch, in its order."""
        rows: Tensor = self.neck(self.body(prepared))
        return rows * self.scale

    def set_scale(self, scale: float) -> None:
        """Answer in units of ``scale``; before training."""
        self.scale.fill_(scale)

    @torch.no_grad()
    def fold_scale(self) -> None:
        """Put the scale into the neck, where there is one; the function stays the same."""
        if isinstance(self.neck, nn.Linear):
            self.neck.weight.mul_(self.scale)
            self.neck.bias.mul_(self.scale)
            self.scale.fill_(1.0)


class Classifier(nn.Module):
    """An encoder and a linear head: a prepared batch -> (rows, classes)."""

    def __init__(self, encoder: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(self, prepared: Prepared) -> Float[Tensor, "rows classes"]:
        """Logits of the batch."""
        logits: Tensor = self.head(self.encoder(prepared))
        return logits


def count_parameters(module: nn.Module) -> int:
    """Numbers learned by the module; buffers such as BatchNorm statistics are not counted."""
    return sum(parameter.numel() for parameter in module.parameters())


def build_student(
    name: str,
    *,
    dim_out: int,
    modality: str,
    options: Mapping[str, Any] | None = None,
    weights: str = "random",
    seed: int = 0,
    in_chans: int = 3,
    image_size: int = 0,
    vocabulary: int = 0,
    padding_id: int = 0,
) -> Encoder:
    """Build a network of width ``dim_out``; 0 is its own, without a neck.

    Equal arguments give equal weights. Global random state is kept. ``weights`` is ``"random"`` or
    a file of a whole student or of its body (.safetensors, or .pth read with ``weights_only``).
    Raises ``StudentError`` for what the network's constructor refuses.
    """
    blueprint = Blueprint(
        name=name,
        dim_out=dim_out,
        modality=modality,
        options=dict(options or {}),
        in_chans=in_chans,
        image_size=image_size,
        vocabulary=vocabulary,
        padding_id=padding_id,
    )
    return build(blueprint, weights=weights, seed=seed)


def build(blueprint: Blueprint, *, weights: str = "random", seed: int = 0) -> Encoder:
    """``build_student`` from a blueprint."""
    if blueprint.dim_out < 0:
        raise StudentError(
            f"a student's width must be at least 1, or 0 for the network's own, got "
            f"{blueprint.dim_out}"
        )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = _family(blueprint.name)(blueprint)
    network.blueprint = blueprint
    if weights != "random":
        load_weights(network, Path(weights))
    return network


def fresh_head(dim: int, classes: int, *, seed: int) -> nn.Linear:
    """Make a linear head with the weights of ``seed``; global state is kept."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Linear(dim, classes)


def _family(name: str) -> Callable[[Blueprint], Encoder]:
    prefix, slash, rest = name.partition("/")
    if slash and rest and prefix in FAMILIES:
        return FAMILIES[prefix]
    if ":" in name:
        return _own
    near = nearest(prefix, FAMILIES)
    raise UnknownStudentError(
        f"no student named {name!r}: say timm/<name>, hf/<model type>, static/<dim> or "
        f"module:factory{near}"
    )


def _timm(blueprint: Blueprint) -> Encoder:
    import timm

    name = blueprint.name.partition("/")[2]
    if blueprint.modality != "image":
        raise StudentError(f"timm/{name} reads images, but the data are {blueprint.modality}s")
    if not timm.is_model(name):
        near = nearest(name, timm.list_models()) or "; timm.list_models() names all"
        raise UnknownStudentError(f"no timm network named {name!r}{near}")
    options = dict(blueprint.options)
    config = timm.get_pretrained_cfg(name)
    if blueprint.image_size and config is not None and config.fixed_input_size:
        options.setdefault("img_size", blueprint.image_size)
    try:
        body = timm.create_model(
            name, pretrained=False, num_classes=0, in_chans=blueprint.in_chans, **options
        )
        width = _width_of(body, blueprint)
    except (
        TypeError,
        ValueError,
        AssertionError,
        AttributeError,
        LookupError,
        RuntimeError,
    ) as error:
        raise StudentError(
            f"timm/{name} cannot be built with the options {options}: {first_line(error)}"
        ) from error
    return _ended(_Pixels(body), width, blueprint)


def _ended(body: nn.Module, width: int, blueprint: Blueprint) -> Encoder:
    """Put the neck on a body of pooled features, where a width is asked for."""
    if blueprint.dim_out == 0:
        return Encoder(body, nn.Identity(), dim_out=width)
    return Encoder(body, nn.Linear(width, blueprint.dim_out), dim_out=blueprint.dim_out)


def _width_of(body: nn.Module, blueprint: Blueprint) -> int:
    """Width of the pooled feature, measured: ``num_features`` is not it in every network."""
    config = getattr(body, "default_cfg", {})
    size = blueprint.image_size or config.get("input_size", (3, 224, 224))[-1]
    body.eval()
    with torch.no_grad():
        rows: Tensor = body(torch.zeros(1, blueprint.in_chans, size, size))
    body.train()
    if rows.ndim != 2:
        raise StudentError(
            f"{blueprint.name} gives shape {tuple(rows.shape)} instead of one pooled row an image"
        )
    return int(rows.shape[1])


class _Pixels(nn.Module):
    """An image network that reads the prepared batch."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, prepared: Prepared) -> Tensor:
        rows: Tensor = self.network(prepared["pixel_values"])
        return rows


def _own(blueprint: Blueprint) -> Encoder:
    if blueprint.dim_out == 0:
        raise StudentError(f"{blueprint.name} is told its width and has none of its own; say one")
    module_name, _, attribute = blueprint.name.partition(":")
    try:
        factory = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise UnknownStudentError(
            f"no student factory {blueprint.name!r}: {first_line(error)}"
        ) from error
    try:
        body = factory(dim_out=blueprint.dim_out, **blueprint.options)
    except TypeError as error:
        raise StudentError(
            f"{blueprint.name} cannot be called with dim_out={blueprint.dim_out} and the options "
            f"{blueprint.options}: {first_line(error)}"
        ) from error
    if not isinstance(body, nn.Module):
        raise StudentError(
            f"{blueprint.name} gave a {type(body).__name__}; it must give a torch.nn.Module that "
            f"maps a prepared batch to (rows, dim_out)"
        )
    return Encoder(body, nn.Identity(), dim_out=blueprint.dim_out)


def _text(blueprint: Blueprint) -> Encoder:
    from students.text import text_body  # transformers is loaded only where text is learned

    return _ended(*text_body(blueprint), blueprint)


def _static(blueprint: Blueprint) -> Encoder:
    return _ended(*static_body(blueprint), blueprint)


FAMILIES: dict[str, Callable[[Blueprint], Encoder]] = {
    "timm": _timm,
    "hf": _text,
    "static": _static,
}
