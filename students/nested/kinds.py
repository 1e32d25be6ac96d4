"""Which plain layers can be nested, the matrix of each, and the nested layer in its place."""

from jaxtyping import Float
from torch import Tensor, nn

from students.nested.base import NestedLayer
from students.nested.building import refuse_unusual
from students.nested.errors import SurgeryError
from students.nested.layers import NestedConv2d, NestedEmbedding, NestedLinear

KINDS = (nn.Linear, nn.Conv2d, nn.Embedding)


def refuse_unnestable(layer: nn.Module) -> None:
    """``SurgeryError`` for a layer that is no plain matrix in floating numbers."""
    if isinstance(layer, NestedLayer):
        raise SurgeryError("it is nested already")
    base = next((kind for kind in KINDS if isinstance(layer, kind)), None)
    if base is None:
        raise SurgeryError(
            f"a {type(layer).__name__} cannot be nested: only linear layers, convolutions and "
            "embeddings can"
        )
    if type(layer).forward is not base.forward:
        raise SurgeryError(
            f"a {type(layer).__module__}.{type(layer).__name__} cannot be nested: it does more "
            f"than {base.__name__} does"
        )
    weight = dict(layer.named_parameters(recurse=False)).get("weight")
    if weight is None:
        raise SurgeryError(
            f"a {type(layer).__name__} whose weight is computed cannot be nested: remove its "
            "parametrisation first"
        )
    if getattr(layer, "bias", None) is not None and "bias" not in layer._parameters:
        raise SurgeryError(
            f"a {type(layer).__name__} whose bias is computed cannot be nested: remove its "
            "parametrisation first"
        )
    refuse_wrapped(layer)
    if not weight.is_floating_point():
        raise SurgeryError(
            f"a weight of {weight.dtype} cannot be nested: take the network before it was quantised"
        )
    refuse_unusual(layer)


def refuse_wrapped(layer: nn.Module) -> None:
    """``SurgeryError`` where more happens at a call than the forward of its kind."""
    hooks = (layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks,
             layer._backward_pre_hooks)  # fmt: skip
    own = layer.__dict__.get("forward")  # some put the method of the class there, and leave it
    replaced = own is not None and getattr(own, "__func__", None) is not type(layer).forward
    if any(hooks) or replaced:
        raise SurgeryError(
            f"a {type(layer).__name__} with hooks or a forward of its own cannot be nested: they "
            "would be lost; take them off, and put them on afterwards"
        )


def matrix_of(layer: nn.Module) -> Float[Tensor, "rows columns"]:
    """W = up @ down of the nested layer: (d_out, d_in), of an embedding (rows, d). No copy.

    ``SurgeryError`` for layers that cannot be nested.
    """
    refuse_unnestable(layer)
    weight: Tensor = layer.get_parameter("weight")
    return weight.detach().flatten(1)


def nested(
    layer: nn.Module, up: Float[Tensor, "rows rank"], down: Float[Tensor, "rank columns"]
) -> NestedLayer:
    """Make the nested layer of these factors that takes the place of a plain one.

    Its bias is a copy. ``SurgeryError`` for layers that cannot be nested, ``NestedError`` for
    factors of another shape.
    """
    refuse_unnestable(layer)
    held = dict(layer.named_parameters()).get("bias")
    bias = None if held is None else held.detach().clone()
    made: NestedLayer
    if isinstance(layer, nn.Conv2d):
        made = NestedConv2d.from_factors(up, down, bias, like=layer)
    elif isinstance(layer, nn.Embedding):
        made = NestedEmbedding.from_factors(up, down, like=layer)
    else:
        made = NestedLinear.from_factors(up, down, bias)
    return made.train(layer.training)
