"""Mean cross-entropy of a linear head and its gradient: all of a fit that reads the rows.

On the CPU the rows are taken in blocks of about ``LOGITS`` logits, which stay in a core's cache
from the first product to the last, and the blocks are spread over threads, with one of BLAS each.
Blocks follow from the data's shape alone and are added up in their order: the number of threads
changes no bit.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import reduce
from itertools import pairwise

import numpy as np
from jaxtyping import Float32, Float64, Int64
from threadpoolctl import ThreadpoolController

from students.errors import HeadError

LOGITS = 2**18  # of one block: 1 MiB in float32
SHARES = 4  # the number of blocks is a multiple of it, so that threads get equally much
DEVICE_LOGITS = 2**27

Rows = Float32[np.ndarray, "rows dim"]
Targets = Int64[np.ndarray, " rows"]
Weight = Float64[np.ndarray, "classes dim"]
Bias = Float64[np.ndarray, " classes"]
Part = tuple[float, Float32[np.ndarray, "classes dim"], Float32[np.ndarray, " classes"]]
Answer = tuple[float, Weight, Bias]
Counts = Int64[np.ndarray, " classes"]
Reading = Callable[[], Iterator[tuple[Rows, Targets]]]  # all rows, block after block
CrossEntropy = Callable[[Weight, Bias], Answer]


@contextmanager
def cross_entropy(rows: Rows, targets: Targets, *, device: str) -> Iterator[CrossEntropy]:
    """Hand out the function (weight, bias) -> (mean loss, its gradient by each).

    Products are float32, sums over blocks float64. The function remembers its last answer, for
    whoever goes on from where another stopped, and knows the one at zero, where descents start.
    ``device`` is ``"cpu"`` or a name torch knows. On the CPU, BLAS has one thread while it lasts.
    """

    def reading() -> Iterator[tuple[Rows, Targets]]:
        yield rows, targets

    counts = np.bincount(targets)
    if device == "cpu":
        with cross_entropy_read(reading, counts) as losses:
            yield losses
    else:
        yield _remembering(_on_device(rows, targets, device), _at_zero(reading, counts))


@contextmanager
def cross_entropy_read(reading: Reading, counts: Counts) -> Iterator[CrossEntropy]:
    """Do the same on the CPU with rows that are read anew for every answer, ``counts`` a class."""
    zero = _at_zero(reading, counts)
    blas = ThreadpoolController().select(user_api="blas")  # a library may be loaded at any time
    # the least of all: in a thread whose BLAS was limited, a library on OpenMP does not know it
    threads = min((library["num_threads"] for library in blas.info()), default=1)
    # for all of the descent: its own small products lose more by threads than they gain
    alone = blas.limit(limits=1) if threads > 1 else nullcontext()
    with alone, ThreadPoolExecutor(threads) as pool:  # which starts those it needs

        def mean(weight: Weight, bias: Bias) -> Answer:
            head = weight.astype(np.float32), bias.astype(np.float32)[:, None]
            total, by_weight, by_bias = 0.0, np.zeros(weight.shape), np.zeros(bias.shape)
            for rows, targets in reading():

                def share(block: slice, rows: Rows = rows, targets: Targets = targets) -> Part:
                    return _block(rows[block], targets[block], *head)

                blocks = _blocks(len(rows), classes=len(counts))
                for part in (pool.map if threads > 1 else map)(share, blocks):
                    total += part[0]
                    by_weight += part[1]
                    by_bias += part[2]
            n = int(counts.sum())
            return total / n, by_weight / n, by_bias / n

        yield _remembering(mean, zero)


def _blocks(rows: int, *, classes: int) -> list[slice]:
    """About ``LOGITS`` logits each, none empty; a quarter of that is not worth a thread."""
    wanted = rows * classes / LOGITS
    count = 1 if wanted < 1 / SHARES else SHARES * int(np.ceil(wanted / SHARES))
    edges = np.linspace(0, rows, min(count, rows) + 1).astype(int)
    return [slice(start, stop) for start, stop in pairwise(edges)]


def _block(
    rows: Rows,
    targets: Targets,
    weight: Float32[np.ndarray, "classes dim"],
    bias: Float32[np.ndarray, "classes 1"],
) -> Part:
    """Summed loss of some rows and its gradient, classes first: sums over them are fast.

    The right class is kept apart from the others: its chance less 1 is minus the sum of theirs,
    which float32 holds to its last digit where both are small.
    """
    which = np.arange(len(rows))
    logits = weight @ rows.T
    logits += bias
    logits -= logits.max(axis=0)
    right = logits[targets, which]
    rights = np.exp(right)
    chances = np.exp(logits, out=logits)
    chances[targets, which] = 0
    others = chances.sum(axis=0)
    loss = float((np.log1p(others + (rights - 1)) - right).sum(dtype=np.float64))
    totals = others + rights
    chances /= totals
    chances[targets, which] = -others / totals
    return loss, chances @ rows, chances.sum(axis=1)


def _on_device(rows: Rows, targets: Targets, device: str) -> CrossEntropy:
    """Do the same with torch, in float32 products and float64 sums too."""
    import torch

    try:
        data, truth = (torch.from_numpy(array).to(device) for array in (rows, targets))
    except (RuntimeError, AssertionError) as error:  # torch says either
        reason = str(error).splitlines()[0]
        raise HeadError(f"rows cannot be put on device {device!r} ({reason}); use 'cpu'") from error

    def mean(weight: Weight, bias: Bias) -> Answer:
        head, shift = (torch.from_numpy(a).to(device, torch.float32) for a in (weight, bias))
        by_weight = torch.zeros(weight.shape, dtype=torch.float64, device=device)
        by_bias = torch.zeros(bias.shape, dtype=torch.float64, device=device)
        total = torch.zeros((), dtype=torch.float64, device=device)
        step = max(1, DEVICE_LOGITS // len(bias))
        for part, labels in zip(torch.split(data, step), torch.split(truth, step), strict=True):
            logits = torch.addmm(shift, part, head.T)
            logits -= logits.max(dim=1, keepdim=True).values
            right = logits.gather(1, labels[:, None])
            rights, chances = right.exp(), logits.exp_().scatter_(1, labels[:, None], 0.0)
            others = chances.sum(dim=1, keepdim=True)
            total += (torch.log1p(others + (rights - 1)) - right).sum(dtype=torch.float64)
            chances /= others + rights
            chances.scatter_(1, labels[:, None], -others / (others + rights))
            by_weight += chances.T @ part
            by_bias += chances.sum(dim=0, dtype=torch.float64)
        n = len(rows)
        return float(total) / n, (by_weight / n).cpu().numpy(), (by_bias / n).cpu().numpy()

    return mean


def _at_zero(reading: Reading, counts: Counts) -> Answer:
    """Where all classes are equally likely: no products are needed, only sums of rows by class."""

    def by_class(rows: Rows, targets: Targets) -> Weight:
        every = range(len(counts))
        return np.stack([rows[targets == one].sum(axis=0, dtype=np.float64) for one in every])

    sums = reduce(np.add, (by_class(*block) for block in reading()))
    by_weight = sums.mean(axis=0) - sums
    n = int(counts.sum())
    return float(np.log(len(counts))), by_weight / n, 1 / len(counts) - counts / n


def _remembering(function: CrossEntropy, zero: Answer) -> CrossEntropy:
    last = np.zeros(zero[1].shape), np.zeros(zero[2].shape), zero

    def remembered(weight: Weight, bias: Bias) -> Answer:
        nonlocal last
        if not (np.array_equal(last[0], weight) and np.array_equal(last[1], bias)):
            last = weight.copy(), bias.copy(), function(weight, bias)
        value, by_weight, by_bias = last[2]
        return value, by_weight.copy(), by_bias.copy()

    return remembered
