"""What a map and a head cost together, in multiply-adds and in stored numbers.

Both are linear, so they fold into one matrix of d x C numbers: a head on k of d features never
costs more than min(k (d + C), d C) multiply-adds, and keeping the two apart is the cheaper form
below k* = d C / (d + C) only.
"""

RECIPE = 3  # numbers that give a map drawn from a seed back: the seed and two widths


def break_even(dim: int, classes: int) -> float:
    """k*, where map and head kept apart cost what the full head does."""
    return dim * classes / (dim + classes)


def multiply_adds(dim_out: int, dim: int, classes: int) -> int:
    """Of one input from its d features; the full head for k = d."""
    return min(dim_out * (dim + classes), dim * classes)


def stored(dim_out: int, dim: int, classes: int, *, from_seed: bool) -> int:
    """Numbers in the cheaper form to run: map, head and biases kept apart, or folded into one."""
    if dim_out * (dim + classes) >= dim * classes:
        return dim * classes + classes
    return (RECIPE if from_seed else dim_out * dim) + dim_out * classes + classes


def shipped_cost(dim_out: int, dim: int, classes: int, *, shipped: str) -> int:
    """What is charged: multiply-adds of a classifier, or the k numbers of a stored embedding."""
    return dim_out if shipped == "embedding" else multiply_adds(dim_out, dim, classes)
