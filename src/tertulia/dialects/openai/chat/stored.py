"""Chat completions that were stored: found, labelled, listed with their messages, deleted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from tertulia.conversations.changes import ConversationChange
from tertulia.dialects.openai.chat.completion import LABEL, Asked, answer_of, completion_of
from tertulia.dialects.openai.ids import item_id, parse_completion_id
from tertulia.dialects.openai.listing import Order
from tertulia.dialects.openai.missing import looking_for
from tertulia.dialects.openai.responses.service import Responses
from tertulia.domain.conversations import Message, Role
from tertulia.domain.errors import Invalid, ModelNotFound, RunNotFound
from tertulia.domain.parts import (
    FilePart,
    Part,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    is_picture,
    text_of,
)
from tertulia.domain.runs import Run, RunStatus
from tertulia.llm.names import full_name
from tertulia.runs.labelled import LabelledRuns


@dataclass(frozen=True, slots=True)
class StoredChats:
    """Finds, changes and deletes the completions that were asked for with `store`."""

    responses: Responses

    async def get(self, name: str, *, user_id: UUID) -> dict[str, Any]:
        """Return a completion.

        Raises:
            RunNotFound: There is none of that name, or it has not ended, or not well.
        """
        run, answer, asked = await self._find(name, user_id=user_id)
        conversation = await self.responses.conversations.get(run.conversation_id, user_id=user_id)
        return completion_of(run, answer.parts, asked, metadata=dict(conversation.metadata))

    async def list(
        self,
        *,
        user_id: UUID,
        limit: int,
        order: Order,
        after: str | None,
        model: str | None,
        metadata: Mapping[str, str],
    ) -> tuple[Sequence[dict[str, Any]], bool]:
        """Return a page of completions, by when they were asked for, and whether there are more.

        Args:
            user_id: Whose.
            limit: At most so many; a page of long answers is shorter.
            order: `asc` is oldest first.
            after: The name of the last one of the page before.
            model: Only those of this model.
            metadata: Only those that have all of these.

        Raises:
            Invalid: There is no completion `after`.
        """
        last = None
        if after is not None:
            try:
                last, _, _ = await self._find(after, user_id=user_id)
            except RunNotFound:
                wrong = "There is no such completion in this list"
                raise Invalid(wrong, field="query.after") from None
        runs = self.responses.runs
        found = await LabelledRuns(runs.database).list(
            LABEL,
            user_id=user_id,
            limit=limit,
            newest_first=order == "desc",
            after=last,
            model_type=None if model is None else await self._model_type(model),
            metadata=metadata,
        )
        shown = [
            completion_of(each.run, each.parts, asked, metadata=dict(each.metadata))
            for each in found
            if (asked := Asked.of(each.run)) is not None
        ]
        return shown, not found.is_last

    async def _model_type(self, model: str) -> str:
        """Return the full name of a model, which may be on offer no more."""
        models = self.responses.runs.models
        await models.wait_for_lists()
        try:
            return models.resolve(model)
        except ModelNotFound:
            return full_name(model)

    async def label(
        self, name: str, metadata: Mapping[str, str], *, user_id: UUID
    ) -> dict[str, Any]:
        """Replace a completion's metadata, and return it.

        Raises:
            RunNotFound: See `get`.
        """
        run, answer, asked = await self._find(name, user_id=user_id)
        conversation = await self.responses.conversations.update(
            run.conversation_id,
            user_id=user_id,
            change=ConversationChange(metadata=metadata, keeps=False),
        )
        return completion_of(run, answer.parts, asked, metadata=dict(conversation.metadata))

    async def delete(self, name: str, *, user_id: UUID) -> None:
        """Delete a completion, and the conversation that is there for nothing else.

        Raises:
            RunNotFound: See `get`.
        """
        run, _, _ = await self._find(name, user_id=user_id)
        await self.responses.runs.delete(run.id, user_id=user_id)

    async def list_messages(self, name: str, *, user_id: UUID) -> Sequence[dict[str, Any]]:
        """Return the messages that a completion answers, oldest first.

        Raises:
            RunNotFound: See `get`.
        """
        run, _, _ = await self._find(name, user_id=user_id)
        return [told(message) for message in await self.responses.input_of(run, user_id=user_id)]

    async def _find(self, name: str, *, user_id: UUID) -> tuple[Run, Message, Asked]:
        with looking_for("Chat completion", name):
            found = await self.responses.runs.get_answer(parse_completion_id(name), user_id=user_id)
            run, answer = found
            asked = Asked.of(run)
            if asked is None or not asked.is_stored or run.status is not RunStatus.COMPLETED:
                raise RunNotFound
        return run, answer, asked


def told(message: Message) -> dict[str, Any]:
    """Return a message as it was sent, more or less; words and calls are never lost."""
    shown: dict[str, Any] = {
        "id": item_id("msg", message.id, 0),
        "role": message.role.value,
        "content": text_of(message.parts),
        "content_parts": None,
    }
    if any(isinstance(part, FilePart) for part in message.parts):
        shown["content_parts"] = _content_parts(message.parts)
    if message.role is Role.ASSISTANT:
        said = answer_of(message.parts, functions=False).model_dump(exclude_none=True)
        calls = any(isinstance(part, ToolCallPart) for part in message.parts)
        shown |= {"content": None if calls else "", "refusal": None, **said}
    for part in message.parts:
        if isinstance(part, ToolResultPart):
            shown |= {"content": part.content, "tool_call_id": part.call_id}
    return shown


def _content_parts(parts: Sequence[Part]) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = []
    for part in parts:
        match part:
            case TextPart(text):
                content.append({"type": "text", "text": text})
            case FilePart(url, _, _, detail) if is_picture(part):
                picture = {"url": url, "detail": detail or "auto"}
                content.append({"type": "image_url", "image_url": picture})
            case FilePart(url, _, name, _):
                content.append({"type": "file", "file": {"file_data": url, "filename": name}})
            case _:
                pass
    return content
