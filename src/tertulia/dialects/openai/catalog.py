"""The models on offer, for OpenAI's routes that name one."""

from typing import Annotated, cast

from fastapi import Depends, Request

from tertulia.llm.catalog import ModelCatalog


async def model_catalog(request: Request) -> ModelCatalog:
    """Return the catalog that the app was built with."""
    return cast("ModelCatalog", request.app.state.models)


Models = Annotated[ModelCatalog, Depends(model_catalog)]
"""A route's parameter: every model on offer."""
