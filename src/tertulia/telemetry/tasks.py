"""Background tasks that are held, watched and ended."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import structlog
from structlog.typing import FilteringBoundLogger

Result = TypeVar("Result")


class TaskSet:
    """The tasks that one owner has started and not yet seen end.

    The event loop holds tasks weakly and reports a failed one only when it is collected: a task
    that nobody holds may vanish, and its exception with it. This set holds them and says at once
    what went wrong.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._log: FilteringBoundLogger = structlog.get_logger("tertulia.tasks")

    def __len__(self) -> int:
        return len(self._tasks)

    def spawn(self, coroutine: Coroutine[Any, Any, Result], *, name: str) -> asyncio.Task[Result]:
        """Start a task, hold it until it ends, and log the exception that ends it, if one does.

        Args:
            coroutine: What to run, in a copy of the caller's context.
            name: For logs and debuggers; need not be unique.
        """
        task = asyncio.create_task(coroutine, name=name)  # noqa: TID251  the one place that holds it
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def cancel_all(self, timeout_s: float) -> None:
        """Cancel every task, also those started meanwhile, and wait until they have ended.

        The calling task is spared if it is one of them. Tasks that have not ended after
        `timeout_s` seconds are named in the log and left.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        cancelled: set[asyncio.Task[Any]] = set()
        while others := self._tasks - {asyncio.current_task()}:
            for task in others - cancelled:
                task.cancel()
            cancelled |= others
            remaining_s = deadline - loop.time()
            if remaining_s <= 0:
                self._log.warning("tasks ignore their end", tasks=sorted(map(_name, others)))
                return
            await asyncio.wait(others, timeout=remaining_s, return_when=asyncio.FIRST_COMPLETED)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("task failed", task=task.get_name(), exc_info=error)


def _name(task: asyncio.Task[Any]) -> str:
    return task.get_name()
