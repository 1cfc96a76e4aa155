"""Python in the documents, run as its reader would."""

import asyncio
import os
import re
import sys

from .documents import DOCS

_PYTHON = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_PATIENCE_S = 60.0


def python_in(document: str) -> list[str]:
    """Return the Python blocks of a document."""
    return _PYTHON.findall((DOCS / document).read_text())


async def run_snippet(source: str, **environment: str) -> str:
    """Run a block as a program of its own and return what it printed.

    Raises:
        AssertionError: It failed.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        source,
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(_PATIENCE_S):
        said, failed = await process.communicate()
    assert process.returncode == 0, failed.decode()
    return said.decode()
