"""What routes that work with responses depend on, in all of OpenAI's surfaces."""

from typing import Annotated

from fastapi import Depends
from starlette.requests import HTTPConnection

from tertulia.dialects.openai.responses.service import Responses

CLIENT_LEFT_STATUS = 499
"""nginx's name, for logs: nobody is there to read the answer."""


async def _responses(connection: HTTPConnection) -> Responses:
    return connection.app.state.responses


Found = Annotated[Responses, Depends(_responses)]
"""A route's parameter: the use cases of responses."""
