"""``python -m distill`` and the ``distill`` script."""

import sys


def main() -> None:
    """Run one command and leave with its exit code."""
    from distill.cli import main as run_command

    sys.exit(run_command(sys.argv[1:]))


if __name__ == "__main__":
    main()
