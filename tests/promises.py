"""Break the promises as often as they were made for: hours, where the suite takes minutes.

`uv run python -m tests.promises` runs every end-to-end test at its full size, one after the other,
and prints what each measured. Arguments are pytest's: `… test_resume.py -k cursor`.
"""

import os
import sys
from pathlib import Path

import pytest

from tests.kit import size

_FOLDER = Path(__file__).parent / "end_to_end"
_TEST_TIMEOUT_S = 3600


def main(arguments: list[str]) -> int:
    """Run the tests and return pytest's exit status; file names are those of `end_to_end`."""
    os.environ[size.VARIABLE] = "full"
    named = [str(_FOLDER / each) if each.endswith(".py") else each for each in arguments]
    if not any(each.endswith(".py") for each in arguments):
        named.append(str(_FOLDER))
    alone = ["--numprocesses=0", f"--timeout={_TEST_TIMEOUT_S}", "-rPfE"]
    return pytest.main([*alone, *named])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
