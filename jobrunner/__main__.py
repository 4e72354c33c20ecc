"""`python -m jobrunner` and the installed command `jobrunner`."""

import signal
import sys


def main() -> None:
    """Run the command line and leave with its exit code."""
    from jobrunner.cli.app import OnTerminate, run
    from jobrunner.failpoint import arm

    arm()
    signal.signal(signal.SIGTERM, OnTerminate())
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
