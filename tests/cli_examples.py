"""What the tests of the command line share: a small run, and what a refusal looks like."""

from collections.abc import Callable

SMALL = [
    "--teacher", "timm/resnet10t", "--random-init", "--image-size", "32", "--limit", "120",
]  # fmt: skip
Answer = tuple[int, str, str]
Command = Callable[..., Answer]


def refused(answer: Answer, *parts: str) -> None:
    """Exit code 2, one line on stderr that says all of ``parts``, nothing on stdout."""
    code, out, err = answer
    assert code == 2, err
    assert err.startswith("distill: ")
    assert err.count("\n") == 1, err
    assert "Traceback" not in err
    assert out == ""
    for part in parts:
        assert part in err, err
