"""What a classifier takes once matrices that follow one another are made one."""

from torch import nn


def saved_by_folding(student: nn.Module) -> tuple[int, int]:
    """Parameters and multiply-adds that one matrix saves where two follow one another.

    The head after a linear neck, or after the last layer of a projector; (0, 0) where keeping
    them apart is cheaper, as with few numbers between many classes and features.
    """
    neck, head = student.get_submodule("encoder.neck"), student.get_submodule("head")
    last = neck[-1] if isinstance(neck, nn.Sequential) else neck
    if not (isinstance(last, nn.Linear) and isinstance(head, nn.Linear)):
        return 0, 0
    inner, k, classes = last.in_features, last.out_features, head.out_features
    bias = k if last.bias is not None else 0
    numbers = inner * k + bias + k * classes - inner * classes
    adds = inner * k + k * classes - inner * classes
    return max(0, numbers), max(0, adds)
