"""Rivals take turns, and the best round of each counts: everything else on a machine only slows."""

import time
from collections.abc import Callable, Mapping
from typing import Any

Works = Mapping[str, Callable[[], Any]]


def best_of(rivals: Works, rounds: int) -> tuple[dict[str, float], dict[str, Any]]:
    """Seconds of each rival's best round, and what its last round returned."""
    best, results = dict.fromkeys(rivals, float("inf")), {}
    for _ in range(rounds):
        for name, work in rivals.items():
            began = time.perf_counter()
            results[name] = work()
            best[name] = min(best[name], time.perf_counter() - began)
    return best, results
