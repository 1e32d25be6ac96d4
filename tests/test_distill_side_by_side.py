"""Work on several items at once: order, errors, threads of BLAS."""

import threading
from contextlib import closing

import pytest

from distill.side_by_side import side_by_side
from tests.blas_threads import blas_threads


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_results_come_in_order_and_stop_at_an_error(workers: int) -> None:
    done: list[int] = []

    def work(number: int) -> int:
        done.append(number)
        if number == 7:
            raise ValueError("seven")
        return number * number

    assert list(side_by_side(work, range(5), workers=workers)) == [0, 1, 4, 9, 16]
    done.clear()
    found: list[int] = []
    with pytest.raises(ValueError, match="seven"):
        found.extend(side_by_side(work, iter(range(100)), workers=workers))
    assert found[:4] == [0, 1, 4, 9]
    assert len(done) < 30


@pytest.mark.parametrize("workers", [1, 8])
def test_blas_has_one_thread_and_afterwards_those_it_had(workers: int) -> None:
    before = blas_threads()
    with closing(side_by_side(lambda _: blas_threads(), range(5), workers=workers)) as some:
        assert set(next(some)) == {1}
    assert blas_threads() == before


def test_items_are_worked_on_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill.side_by_side.cores", lambda: 2)
    both = threading.Barrier(2, timeout=30)  # neither passes it alone
    assert len(list(side_by_side(lambda _: both.wait(), range(2)))) == 2
