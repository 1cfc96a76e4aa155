"""What a request's query string asks for, read once for each string that there is.

FastAPI finds and checks each parameter by itself, at every request: six of them take a sixth of
what a short list costs. The same string always asks for the same, so here it is looked up.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, Generic, TypeVar, get_type_hints

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError, create_model
from starlette.datastructures import QueryParams

Asked = TypeVar("Asked")

_REMEMBERED = 1024
_REMEMBERED_BYTES = 256
"""Of one string; longer ones are read each time."""


def read_once(read: Callable[[bytes], Asked]) -> Callable[[bytes], Asked]:
    """Return a function of a query string that remembers what `read` made of short ones.

    What is made must not be changed by anybody.
    """
    read_again = functools.lru_cache(_REMEMBERED)(read)
    return lambda query: (read_again if len(query) <= _REMEMBERED_BYTES else read)(query)


class QueryReader(Generic[Asked]):
    """A dependency that gives a route what `page` makes of the query's parameters.

    Args:
        page: Takes them as keywords, annotated as FastAPI's are, and has a default for each. The
            same strings must always make the same thing, which nobody changes.
    """

    def __init__(self, page: Callable[..., Asked]) -> None:
        self._page = page
        hints = get_type_hints(page, include_extras=True)
        fields: dict[str, Any] = {
            name: (hints[name], parameter.default)
            for name, parameter in inspect.signature(page).parameters.items()
        }
        self._model: type[BaseModel] = create_model(page.__name__, **fields)
        self._read_once = read_once(self._read)

    async def __call__(self, request: Request) -> Asked:
        """Return what the request asks for.

        Raises:
            RequestValidationError: A parameter is not what it should be; as FastAPI would say it.
            Invalid: As `page` says.
        """
        return self._read_once(request.scope["query_string"])

    @property
    def documented(self) -> dict[str, Any]:
        """The parameters in OpenAPI's words: what a route's `openapi_extra` is."""
        app = FastAPI()
        app.add_api_route("/", _documenting(self._page))
        return {"parameters": app.openapi()["paths"]["/"]["get"]["parameters"]}

    def _read(self, query: bytes) -> Asked:
        given = dict(QueryParams(query))
        try:
            asked = self._model.model_validate(given)
        except ValidationError as error:
            errors = error.errors(include_url=False)
            raise RequestValidationError(
                [{**each, "loc": ("query", *each["loc"])} for each in errors]
            ) from None
        return self._page(**{name: getattr(asked, name) for name in self._model.model_fields})


def _documenting(page: Callable[..., object]) -> Callable[..., object]:
    async def route(_page: Annotated[object, Depends(page)]) -> None: ...

    return route
