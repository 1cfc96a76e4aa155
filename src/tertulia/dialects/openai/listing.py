"""OpenAI's lists: `{"object": "list", "data", "first_id", "last_id", "has_more"}`."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeAlias

from fastapi import Query
from pydantic import Field

from tertulia.dialects.openai.items import Item
from tertulia.domain.errors import Invalid
from tertulia.http.paging import IN_DIGITS

LIMIT_MAX = 100

ItemsLimit = Annotated[Annotated[int, Field(ge=1, le=LIMIT_MAX), IN_DIGITS], Query()]
ItemsAfter = Annotated[str | None, Query(min_length=1, max_length=200)]
Order: TypeAlias = Literal["asc", "desc"]
ItemsOrder = Annotated[Order, Query()]


def list_of(items: Sequence[Item], *, has_more: bool) -> dict[str, Any]:
    """Return one page of a list."""
    return {
        "object": "list",
        "data": list(items),
        # The official clients insist on text, also where there is nothing to name.
        "first_id": items[0]["id"] if items else "",
        "last_id": items[-1]["id"] if items else "",
        "has_more": has_more,
    }


def page_of(
    items: Sequence[Item], *, after: str | None, limit: int, order: Order
) -> dict[str, Any]:
    """Return the page of a whole list, oldest first, that begins after the item named `after`.

    Raises:
        Invalid: There is no such item in it.
    """
    ordered = list(items) if order == "asc" else list(reversed(items))
    begin = 0
    if after is not None:
        ids = [item["id"] for item in ordered]
        if after not in ids:
            raise Invalid("There is no such item in this list", field="query.after")
        begin = ids.index(after) + 1
    page = ordered[begin : begin + limit]
    return list_of(page, has_more=begin + limit < len(ordered))
