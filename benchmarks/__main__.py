"""``make bench``: every benchmark in a process of its own; JSON to benchmarks/out/, a line a bar.

Exit code 1 when a bar is not reached: timings are noisy, so this is for people, not for CI.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

BENCHMARKS = (
    "stores", "extract", "project", "maps", "moments", "validate", "heads", "sweep", "students",
    "export", "online", "views", "throughput", "nested", "precision",
)  # fmt: skip
OUT = Path(__file__).resolve().parent / "out"


def main() -> int:
    """Run the named benchmarks, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", default=BENCHMARKS, metavar="NAME")
    names = parser.parse_args().names
    OUT.mkdir(exist_ok=True)
    missed = 0
    for name in names:
        done = subprocess.run(
            [sys.executable, "-m", f"benchmarks.{name}"], stdout=subprocess.PIPE, text=True
        )
        if done.returncode:
            print(f"{name}: failed with exit code {done.returncode}")
            missed += 1
            continue
        (OUT / f"{name}.json").write_text(done.stdout)
        missed += sum(not told(name, bar) for bar in json.loads(done.stdout)["bars"])
    return 1 if missed else 0


def told(name: str, bar: dict[str, Any]) -> bool:
    """Print one bar and return whether it is reached."""
    more = bar["better"] == "more"
    reached = bar["measured"] >= bar["bar"] if more else bar["measured"] <= bar["bar"]
    limit = f"{'>=' if more else '<='} {bar['bar']:g}"
    verdict = "ok    " if reached else "MISSED"
    print(f"{verdict} {name}: {bar['what']}: {bar['measured']:.3g} ({limit})")
    return bool(reached)


if __name__ == "__main__":
    sys.exit(main())
