"""`POST /v1/embeddings`: texts as vectors."""

import asyncio
from http import HTTPStatus

from fastapi import APIRouter, Request
from starlette.responses import Response

from tertulia.auth.dependencies import CurrentUser
from tertulia.dialects.openai.catalog import Models
from tertulia.dialects.openai.embeddings.schemas import (
    EmbeddingsCreate,
    EmbeddingsResponse,
    write_embeddings,
)
from tertulia.dialects.openai.missing import asking_for
from tertulia.domain.models import ProviderFailed
from tertulia.http.errors import error_response

router = APIRouter(prefix="/v1", tags=["openai"])


@router.post("/embeddings", response_model=EmbeddingsResponse)
async def create_embeddings(
    body: EmbeddingsCreate, request: Request, models: Models, _: CurrentUser
) -> Response:
    """Return a vector for each text: near one another where the texts mean similar things."""
    with asking_for(body.model):
        name = await models.resolve_embedding(body.model)
    asked = body.to_request(name)
    request.state.take_time()
    try:
        embedded = await models.embed(asked)
    except ProviderFailed as failure:
        return _refusal(failure)
    encoding = body.encoding_format or "float"
    written = await asyncio.to_thread(write_embeddings, embedded, name, encoding)
    return Response(written, media_type="application/json")


def _refusal(failure: ProviderFailed) -> Response:
    """Return the answer that a provider's fault gets; here is no run that it could end."""
    # Whom the provider does not know is this server, not its caller.
    is_ours = failure.code == "provider_unauthorized"
    status = HTTPStatus.BAD_GATEWAY if is_ours else failure.status
    return error_response(status, failure.code, failure.message)
