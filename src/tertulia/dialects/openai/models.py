"""`GET /v1/models`: what a `model` may be."""

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from tertulia.auth.dependencies import CurrentUser
from tertulia.dialects.openai.catalog import Models
from tertulia.dialects.openai.missing import asking_for
from tertulia.domain.errors import ModelNotFound
from tertulia.llm.catalog import ModelCatalog
from tertulia.llm.names import provider_of

router = APIRouter(prefix="/v1", tags=["openai"])

_CREATED_S = 0
"""Since 1970. The field is required, and nobody tells when a model was made."""


class ModelObject(BaseModel):
    """A model that can be asked for."""

    id: str
    object: Literal["model"] = "model"
    created: int = _CREATED_S
    owned_by: str

    @classmethod
    def of(cls, name: str) -> "ModelObject":
        """Return the model of a full name for the wire."""
        return cls(id=name, owned_by=provider_of(name))


class ModelList(BaseModel):
    """All of them."""

    object: Literal["list"] = "list"
    data: list[ModelObject]


@router.get("/models")
async def list_models(models: Models, _: CurrentUser) -> ModelList:
    """List what can be asked for: models that answer, the default first, then embedding models."""
    names = [info.name for info in await models.list()]
    every = dict.fromkeys((*names, *models.list_embeddings()))
    return ModelList(data=[ModelObject.of(name) for name in every])


@router.get("/models/{model:path}")
async def get_model(model: str, models: Models, _: CurrentUser) -> ModelObject:
    """Return a model by its name; a bare name means OpenAI's."""
    return ModelObject.of(await _find(models, model))


async def _find(models: ModelCatalog, name: str) -> str:
    await models.wait_for_lists()
    for full in models.list_embeddings():
        if name in (full, full.partition(":")[2]):
            return full
    try:
        with asking_for(name):
            return models.resolve(name)
    except ModelNotFound as error:
        raise ModelNotFound(error.detail, field="model") from error
