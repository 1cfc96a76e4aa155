"""The floor: what FastAPI, asyncpg, a response model and the check of a JWT cost, and no more.

On the product's own tables. It looks up no user or session, bounds nothing, numbers nothing, and
forgets what others need: replays, branches, running answers. What it leaves out is what the
product's price is paid for.
"""

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import asyncpg
import jwt
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel

from benchmarks.yardsticks.serving import serve
from tertulia.domain.ids import new_id

_KEY = os.environ.get("SECRET_KEY", "")
_LIST = """
    SELECT id, title, model_type, is_archived, message_count, created_at, updated_at
    FROM conversations WHERE user_id = $1 ORDER BY created_at DESC, id DESC LIMIT $2
"""
_MESSAGES = """
    SELECT id, conversation_id, role, content, created_at FROM messages
    WHERE conversation_id = (SELECT id FROM conversations WHERE id = $1 AND user_id = $2)
    ORDER BY seq LIMIT $3
"""
_APPEND = """
    WITH moved AS (
        UPDATE conversations SET last_seq = last_seq + 1, message_count = message_count + 1,
            head_id = $3, head_seq = last_seq + 1, updated_at = now()
        WHERE id = $1 AND user_id = $2 RETURNING last_seq
    )
    INSERT INTO messages (id, conversation_id, seq, branch, role, content)
    SELECT $3, $1, last_seq, 0, $4, $5 FROM moved
    RETURNING id, conversation_id, role, content, created_at
"""


class Conversation(BaseModel):
    """A conversation."""

    id: UUID
    title: str | None
    model_type: str
    is_archived: bool
    message_count: int
    created_at: datetime
    updated_at: datetime


class NewMessage(BaseModel):
    """A message to be stored."""

    role: str
    content: str


class Message(BaseModel):
    """A message."""

    id: UUID
    conversation_id: UUID
    role: str
    content: str
    created_at: datetime


@asynccontextmanager
async def _pool(app: FastAPI) -> AsyncGenerator[None]:
    async def nothing(_connection: Any) -> None:  # noqa: ANN401  the pool's
        pass

    async with asyncpg.create_pool(
        os.environ["BENCH_DSN"], min_size=0, max_size=6, reset=nothing
    ) as pool:
        app.state.pool = pool
        yield


app = FastAPI(openapi_url=None, lifespan=_pool)
_bearer = HTTPBearer()


async def _user_id(
    credentials: Annotated[HTTPAuthorizationCredentials, Depends(_bearer)],
) -> UUID:
    try:
        claims: dict[str, Any] = jwt.decode(credentials.credentials, _KEY, algorithms=["HS256"])  # pyright: ignore[reportUnknownMemberType]  its key may be of a library that is not installed
    except jwt.PyJWTError as error:
        raise HTTPException(401) from error
    return UUID(claims["sub"])


UserId = Annotated[UUID, Depends(_user_id)]


@app.get("/conversations")
async def list_conversations(
    user_id: UserId, request: Request, limit: int = 10
) -> list[Conversation]:
    """List the newest."""
    rows = await request.app.state.pool.fetch(_LIST, user_id, limit)
    return [Conversation.model_validate(dict(row)) for row in rows]


@app.get("/conversations/{conversation_id}/messages")
async def list_messages(
    conversation_id: UUID, user_id: UserId, request: Request, limit: int = 50
) -> list[Message]:
    """List the first."""
    rows = await request.app.state.pool.fetch(_MESSAGES, conversation_id, user_id, limit)
    return [Message.model_validate(dict(row)) for row in rows]


@app.post("/conversations/{conversation_id}/messages", status_code=201)
async def create_message(
    conversation_id: UUID, body: NewMessage, user_id: UserId, request: Request
) -> Message:
    """Store one, in one statement."""
    row = await request.app.state.pool.fetchrow(
        _APPEND, conversation_id, user_id, new_id(), body.role, body.content
    )
    if row is None:
        raise HTTPException(404)
    return Message.model_validate(dict(row))


if __name__ == "__main__":
    serve(app)
