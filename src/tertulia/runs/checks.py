"""Whether a model can do what a send asks of it, known before anything is stored."""

from uuid import UUID

from tertulia.domain.errors import ConversationNotFound
from tertulia.llm.catalog import ModelCatalog
from tertulia.runs.send import NewConversation, Send
from tertulia.storage.database import Database


async def check_model(
    database: Database,
    models: ModelCatalog,
    where: UUID | NewConversation,
    send: Send,
    *,
    user_id: UUID,
) -> None:
    """Refuse what the model that is meant would leave out without a word.

    Raises:
        Invalid: It cannot be held to the form, or made to call the tools, that `send` asks for.
        ModelNotFound: `send.model_type` is not on offer.
    """
    if send.settings.response_format is None and send.settings.tool_choice is None:
        return
    if send.model_type:
        name = models.resolve(send.model_type)
    elif isinstance(where, UUID):
        # Beside the transaction that will lock it: a provider's library is not waited for there.
        try:
            async with database.reading() as work:
                found = await work.conversations.get(where, user_id=user_id)
        except ConversationNotFound:
            return  # Which is not for this to say.
        name = models.resolve(found.model_type, strict=False)
    else:
        name = models.resolve(where.model_type, strict=False)
    await models.check(name, send.settings, calls_tools=bool(send.mcp))
