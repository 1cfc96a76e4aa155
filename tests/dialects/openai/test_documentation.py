"""What docs/openai.md shows works as it stands there."""

import asyncio
import os
import re
import sys

from tests.dialects.conftest import Server
from tests.kit.documents import DOCS
from tests.kit.person import Person
from tests.kit.provider_script import DEFAULT_TEXT


async def test_the_example_prints_what_it_says(server: Server, ana: Person) -> None:
    document = (DOCS / "openai.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", document, re.DOTALL)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code.replace("local:smollm2", "openai:scripted")),
        stdout=asyncio.subprocess.PIPE,
        env={
            **os.environ,
            "OPENAI_BASE_URL": f"{server.url}/v1",
            "OPENAI_API_KEY": ana.token,
        },
    )
    printed, _ = await process.communicate()

    assert process.returncode == 0
    assert printed.decode() == f"{DEFAULT_TEXT}\n{DEFAULT_TEXT}"
