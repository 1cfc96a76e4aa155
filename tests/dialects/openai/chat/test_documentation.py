"""What docs/openai-chat.md shows works as it stands there."""

import asyncio
import json
import re
import sys

from tests.dialects.conftest import Server
from tests.kit.documents import DOCS
from tests.kit.person import Person
from tests.kit.provider_script import DEFAULT_TEXT

DOCUMENT = (DOCS / "openai-chat.md").read_text()


def shown(language: str) -> str:
    """Return the example in that language."""
    (code,) = re.findall(rf"```{language}\n(.*?)```", DOCUMENT, re.DOTALL)
    return code


async def test_the_python_example_prints_the_answer(server: Server, ana: Person) -> None:
    code = (
        shown("python")
        .replace("http://localhost:8000", server.url)
        .replace("YOUR_TOKEN", ana.token)
        .replace("local:smollm2", "scripted")
    )

    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await process.communicate()

    assert process.returncode == 0
    assert printed.decode() == DEFAULT_TEXT


async def test_the_curl_example_is_answered(ana: Person) -> None:
    (body,) = re.findall(r"-d '(.*?)'", shown("bash"), re.DOTALL)
    asked = {**json.loads(body), "model": "scripted"}

    answer = await ana.call("POST", "/v1/chat/completions", json=asked)

    assert answer.text.endswith("data: [DONE]\n\n")
