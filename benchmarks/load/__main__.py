"""The generator's process."""

import gc
import sys

from benchmarks.load.jobs import RequestsJob, decode
from benchmarks.load.requests import run_requests
from benchmarks.load.streams import run_streams


def main() -> None:
    """Do the one job that standard input asks for."""
    job = decode(sys.stdin.readline())
    # What it remembers is small, and a collection would look like a slow answer.
    gc.disable()
    if isinstance(job, RequestsJob):
        run_requests(job)
    else:
        run_streams(job)


if __name__ == "__main__":
    main()
