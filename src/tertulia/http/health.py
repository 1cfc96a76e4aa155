"""Is this process alive, and can it serve?"""

from collections.abc import Awaitable, Callable
from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel

router = APIRouter(tags=["health"])

ReadinessCheck = Callable[[], Awaitable[None]]


class Health(BaseModel):
    """The answer of a healthy server."""

    status: Literal["ok"] = "ok"


@router.get("/health")
async def health() -> Health:
    """Say that the process is alive, whatever the state of what it depends on."""
    return Health()


@router.get("/ready")
async def ready(request: Request) -> Health:
    """Say whether the server can serve: 200, or 503 with the reason.

    Raises:
        Unavailable: The database is away, or this process is stopping.
    """
    check: ReadinessCheck = request.app.state.check_readiness
    await check()
    return Health()
