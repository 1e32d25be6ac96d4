"""``make bench``: every benchmark in a process of its own; JSON to benchmarks/out/, a line a bar.

Exit code 1 when a bar is not reached: timings are noisy, so this is for people, not for CI.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

BENCHMARKS = ("stores", "extract", "project", "validate", "students")
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
        for bar in json.loads(done.stdout)["bars"]:
            reached = bar["measured"] >= bar["bar"] if bar["better"] == "more" else bar["measured"] <= bar["bar"]
            sign = ">=" if bar["better"] == "more" else "<="
            print(f"{'ok    ' if reached else 'MISSED'} {name}: {bar['what']}: {bar['measured']:.3g} (bar {sign} {bar['bar']:g})")
            missed += not reached
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
