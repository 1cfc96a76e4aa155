"""`POST /v1/responses/input_tokens`: how much a response would have to read."""

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from tertulia.auth.dependencies import CurrentUser
from tertulia.dialects.openai.missing import asking_for
from tertulia.dialects.openai.responses.dependencies import Found
from tertulia.dialects.openai.responses.request import Key, ResponseSettings
from tertulia.domain.errors import Invalid, Unavailable
from tertulia.domain.models import ModelRequest, ProviderFailed
from tertulia.runs.send import Instructions

router = APIRouter(prefix="/v1/responses", tags=["openai"])


class InputTokensCreate(ResponseSettings):
    """What a response would be asked with."""

    personality: Key | None = None


class InputTokens(BaseModel):
    """How much that is."""

    object: Literal["response.input_tokens"] = "response.input_tokens"
    input_tokens: int


@router.post("/input_tokens")
async def count_input_tokens(
    body: InputTokensCreate, user: CurrentUser, responses: Found
) -> InputTokens:
    """Count the tokens of an input with all that came before it. Nothing is stored or asked.

    For the bundled model by its own tokenizer; for others by the estimate with which conversations
    are fitted into a model's context, which is rather too high.
    """
    runs = responses.runs
    await runs.models.wait_for_lists()
    with asking_for(body.model):
        model = runs.models.resolve(body.model)
    settings = body.to_settings()
    messages = await responses.read_all(body, user_id=user.id)
    instructions = (
        Instructions(body.instructions, heeds_system=True)
        if responses.heeds_instructions
        else Instructions()
    )
    told = runs.executor.loop.prompts.told(messages, instructions)
    if not told:
        raise Invalid("There is nothing to count: send `input`", field="body.input")
    try:
        tokens = await runs.models.count_tokens(ModelRequest(model, told, settings))
    except ProviderFailed as failed:
        raise Unavailable(failed.message) from failed
    return InputTokens(input_tokens=tokens)
