"""The statements that list conversations, newest first: one for each set of filters."""

from sqlalchemy import (
    Boolean,
    DateTime,
    Integer,
    Text,
    Uuid,
    bindparam,
    literal_column,
    select,
    tuple_,
)

from tertulia.domain.conversations import Retention
from tertulia.storage.statements import Statement, statement
from tertulia.storage.tables import conversations as t

SHOWN = (
    t.c.id,
    t.c.user_id,
    t.c.title,
    t.c.model_type,
    t.c.is_archived,
    t.c.metadata,
    t.c.message_count,
    t.c.head_id,
    t.c.created_at,
    t.c.updated_at,
)
# What is temporary is found by those only who hold its run: no list shows it, and nobody reads or
# names it. Not a parameter: the planner would guess that it leaves many out.
LASTING = t.c.retention != literal_column(f"'{Retention.TEMPORARY.value}'")
_NEWEST_FIRST = (t.c.created_at.desc(), t.c.id.desc())


def _list_statement(*, archived: bool, model_type: bool, after: bool) -> Statement:
    query = select(*SHOWN).where(
        t.c.user_id == bindparam("user_id", type_=Uuid()),
        LASTING,
    )
    if archived:
        query = query.where(t.c.is_archived == bindparam("archived", type_=Boolean()))
    if model_type:
        query = query.where(t.c.model_type == bindparam("model_type", type_=Text()))
    if after:
        # A row comparison, so that the index alone finds the place.
        here = tuple_(t.c.created_at, t.c.id)
        there = tuple_(
            bindparam("after_at", type_=DateTime(timezone=True)),
            bindparam("after_id", type_=Uuid()),
        )
        query = query.where(here < there)
    query = query.order_by(*_NEWEST_FIRST)
    return statement(
        query.offset(bindparam("skip", type_=Integer())).limit(bindparam("limit", type_=Integer()))
    )


# One statement for each set of filters, because a condition such as "$1 IS NULL OR …" would keep
# PostgreSQL from using the index made for it.
LISTS = {
    (archived, model_type, after): _list_statement(
        archived=archived, model_type=model_type, after=after
    )
    for archived in (False, True)
    for model_type in (False, True)
    for after in (False, True)
}
