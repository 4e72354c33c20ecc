"""`python -m jobrunner` and the installed command `jobrunner`."""

import sys


def main() -> None:
    """Run the command line and leave with its exit code."""
    from jobrunner.cli.app import run
    from jobrunner.failpoint import arm

    arm()
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
