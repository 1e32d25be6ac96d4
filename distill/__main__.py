"""``python -m distill`` and the ``distill`` script."""

import sys


def main() -> None:
    """Run one command, alone or with other processes, and leave with its exit code."""
    from distill.cli import main as run_command
    from distill.together import run_together

    sys.exit(run_together(run_command, sys.argv[1:]))


if __name__ == "__main__":
    main()
