"""Naming untitled conversations after their first answer, in the model's own words.

A durable job (kind `title`) that the end of the first answer leaves behind: example 7-16 of the
first seed.
"""

import asyncio
import re
from contextlib import aclosing
from dataclasses import dataclass
from uuid import UUID

from tertulia.domain.errors import ConversationNotFound, MessageNotFound, ModelNotFound
from tertulia.domain.models import (
    ModelRequest,
    ModelSettings,
    PromptMessage,
    ProviderFailed,
    TextDelta,
)
from tertulia.domain.parts import TextPart
from tertulia.llm.catalog import ModelCatalog
from tertulia.storage.database import Database
from tertulia.storage.notices import Notifier
from tertulia.storage.repositories.jobs import Job
from tertulia.telemetry.crash_points import crash_point

_INSTRUCTION = (
    "Suggest a title for the conversation based on the user's first message: at most six words, "
    "in the language of that message. Answer with the title alone."
)
_PROMPT_CHARS = 2_000
_ANSWER_TOKENS = 24
_TITLE_CHARS = 80
_TITLE_WORDS = 10
_SUGGESTION_S = 40.0
_LAST_TRY = 3
_NO_WORDS = "…"
"""The title of a conversation that begins without a single word."""

_SPACES = re.compile(r"\s+")
_DECORATION = "\"'`*#_“”‘’«»「」『』《》 .。:："  # noqa: RUF001  quotation marks of many languages


@dataclass(frozen=True, slots=True)
class TitleWriter:
    """Does the `title` jobs."""

    database: Database
    models: ModelCatalog
    notifier: Notifier

    async def write(self, job: Job) -> None:
        """Give the conversation a title, unless it has one or is gone.

        Raises:
            ProviderFailed: The model did not answer, and may when asked again.
        """
        conversation_id = UUID(job.payload["conversation_id"])
        user_id = UUID(job.payload["user_id"])
        try:
            async with self.database.reading() as work:
                conversation = await work.conversations.get(conversation_id, user_id=user_id)
                answer = await work.messages.get(
                    UUID(job.payload["message_id"]),
                    conversation_id=conversation_id,
                    user_id=user_id,
                )
                first = await work.messages.list(conversation_id, user_id=user_id, limit=1)
        except (ConversationNotFound, MessageNotFound):
            return
        if conversation.title is not None or not first or answer.generation is None:
            return
        asked = first[0].content[:_PROMPT_CHARS]
        suggested = tidy(await self._suggest(answer.generation.model_type, asked, job.attempts))
        # A small model answers the message instead of naming it; then its own words are better.
        title = suggested if len(suggested.split()) <= _TITLE_WORDS else ""
        crash_point("title.suggested")
        async with self.database.reading() as work:
            written = await work.conversations.set_title_if_untitled(
                conversation_id, title or tidy(asked) or _NO_WORDS, user_id=user_id
            )
        crash_point("title.stored")
        if written:
            self.notifier.changed(
                "conversation.updated", user_id=user_id, conversation_id=conversation_id
            )

    async def _suggest(self, model: str, asked: str, attempt: int) -> str:
        request = ModelRequest(
            model,
            [
                PromptMessage("system", (TextPart(_INSTRUCTION),)),
                PromptMessage("user", (TextPart(asked),)),
            ],
            ModelSettings(temperature=0.2, max_tokens=_ANSWER_TOKENS),
        )
        try:
            async with (
                asyncio.timeout(_SUGGESTION_S),
                aclosing(self.models.stream(request)) as deltas,
            ):
                words = [delta.text async for delta in deltas if isinstance(delta, TextDelta)]
        except (ProviderFailed, TimeoutError, ModelNotFound):
            if attempt < _LAST_TRY:
                raise
            # The model cannot; the user's own words are a title too.
            return ""
        return "".join(words)


def tidy(suggested: str) -> str:
    """Return the first line of what a model suggested, as a title of at most 80 characters."""
    line = next((line for line in suggested.splitlines() if line.strip(_DECORATION)), "")
    title = _SPACES.sub(" ", line).strip(_DECORATION)
    title = re.sub(r"(?i)^title\s*[:：]\s*", "", title)  # noqa: RUF001  Chinese models write a wide colon
    title = title.strip(_DECORATION)
    if len(title) <= _TITLE_CHARS:
        return title
    short = title[:_TITLE_CHARS]
    # At a space where there is one; Chinese has none.
    return (short.rpartition(" ")[0] or short[:-1]).rstrip() + "…"
