"""A warm client: `python results.py COUNT` enqueues a job and waits for its result, one after the other.

Prints the seconds of each as JSON.
"""

import json
import os
import sys
import time

import bench_tasks

from jobrunner import Client


def main() -> None:
    took_s = []
    with Client(os.environ["BENCH_URL"]).options(queue="bench.jobrunner") as client:
        client.enqueue(bench_tasks.nothing).result(timeout="60s")
        for _ in range(int(sys.argv[1])):
            began = time.perf_counter()
            client.enqueue(bench_tasks.nothing).result(timeout="60s")
            took_s.append(time.perf_counter() - began)
    print(json.dumps(took_s))


if __name__ == "__main__":
    main()
