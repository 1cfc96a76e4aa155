"""What docs/mcp.md shows works as it stands there."""

import asyncio
import re
import sys

from tests.kit.documents import DOCS
from tests.runs.talking import Talker


async def test_the_python_example_finds_the_message(ana: Talker) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (DOCS / "mcp.md").read_text(), re.DOTALL)
    code = code.replace("http://localhost:8000", str(ana.client.base_url).rstrip("/"))
    conversation = await ana.new_conversation()
    await ana.ask(conversation, "明天的天气怎么样?")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        code.replace("YOUR_TOKEN", ana.token),
        stdout=asyncio.subprocess.PIPE,
    )
    printed, _ = await process.communicate()
    assert process.returncode == 0
    id_ = conversation.rpartition("/")[2]
    assert printed.decode() == f"{id_} 明天的天气怎么样?\n"
