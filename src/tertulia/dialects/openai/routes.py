"""All that is at `/v1`."""

from fastapi import APIRouter

from tertulia.dialects.openai.chat.routes import router as chat
from tertulia.dialects.openai.conversations.routes import router as conversations
from tertulia.dialects.openai.embeddings.routes import router as embeddings
from tertulia.dialects.openai.errors import ERROR_RESPONSES
from tertulia.dialects.openai.models import router as models
from tertulia.dialects.openai.responses.compaction import router as compaction
from tertulia.dialects.openai.responses.input_tokens import router as input_tokens
from tertulia.dialects.openai.responses.routes import router as responses
from tertulia.dialects.openai.responses.socket import router as response_socket

router = APIRouter(responses=ERROR_RESPONSES)
# Compaction first: `/v1/responses/compact` is no response's name.
for each in (
    *(compaction, input_tokens, responses, response_socket),
    *(conversations, chat, embeddings, models),
):
    router.include_router(each)
