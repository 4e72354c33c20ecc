"""A process that runs job after job does not grow by their variables, and they are what the jobs see."""

import subprocess
import sys

import pytest

PROGRAM = """
import os, subprocess
from jobrunner.execution.surroundings import Surroundings

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

around = Surroundings(lambda: None)

def job(number, **more):
    around.enter({"JOBRUNNER_JOB_ID": f"{number:016d}", **more}, None)
    around.restore()

for number in range(20_000):
    job(number)
before = resident()
for number in range(20_000, 120_000):
    job(number)
print(resident() - before)

def told(name):
    return subprocess.run(["/bin/sh", "-c", f"printf %s \\"${name}\\""], capture_output=True, text=True).stdout

job(7, JOBRUNNER_JOB_INPUT="short")
print(told("JOBRUNNER_JOB_ID"), os.environ["JOBRUNNER_JOB_ID"], told("JOBRUNNER_JOB_INPUT"))
around.enter({"JOBRUNNER_JOB_ID": "8", "JOBRUNNER_JOB_INPUT": "x" * 5000}, None)
os.environ["JOBRUNNER_JOB_ID"] = "mine"  # a job may do so
around.restore()
print(told("JOBRUNNER_JOB_ID"), len(told("JOBRUNNER_JOB_INPUT")))
job(9)
print(told("JOBRUNNER_JOB_ID"), "JOBRUNNER_JOB_INPUT" in os.environ, repr(told("JOBRUNNER_JOB_INPUT")))
try:
    job(10, JOBRUNNER_JOB_INPUT="a\\0b")
except ValueError as exc:
    print(exc)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's way to keep what setenv was given")
def test_a_hundred_thousand_ids_leave_nothing_behind_and_each_is_seen() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    grown, *lines = done.stdout.splitlines()
    assert int(grown) < 1_000_000  # with setenv: over 6 million
    assert lines == [
        f"{7:016d} {7:016d} short",
        "8 5000",
        f"{9:016d} False ''",
        "embedded null byte",
    ]
