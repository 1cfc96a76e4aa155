"""The statements that list conversations, newest first: one for each kind of page."""

import functools

from tertulia.storage.statements import Statement, statement

SHOWN = (
    "id, user_id, title, model_type, is_archived, metadata, message_count, head_id, created_at, "
    "updated_at"
)
# What is temporary is found by those only who hold its run: no list shows it, and nobody reads or
# names it. Not a parameter: the planner would guess that it leaves many out.
LASTING = "retention <> 'temporary'"


_LENGTHS = (11, 21, 51, 101, 201)
"""Of a page, and one: few, so that nobody fills the connections' memory of statements."""


def list_statement(
    *, archived: bool, model_type: bool, after: bool, skips: bool, limit: int
) -> Statement:
    """Return a statement that lists `limit` conversations or some more, newest first.

    Args:
        archived: Whether those are left out that do not have `:archived`.
        model_type: The same for `:model_type`.
        after: Whether the list begins after `:after_at` and `:after_id`.
        skips: Whether the first `:skip` are left out.
        limit: How many are wanted.
    """
    enough = next((length for length in _LENGTHS if length >= limit), limit)
    return _list_statement(archived, model_type, after, skips, enough)


# One statement for each set of filters, because a condition such as "$1 IS NULL OR …" would keep
# PostgreSQL from using the index made for it; and one for each length of a page. Where the length
# is a parameter, PostgreSQL takes it for a tenth of all rows, and so plans anew each time.
@functools.cache
def _list_statement(
    archived: bool,
    model_type: bool,
    after: bool,
    skips: bool,
    limit: int,
) -> Statement:
    wanted = ["user_id = :user_id", LASTING]
    if archived:
        wanted.append("is_archived = :archived")
    if model_type:
        wanted.append("model_type = :model_type")
    if after:
        # A row comparison, so that the index alone finds the place.
        wanted.append("(created_at, id) < (:after_at, :after_id)")
    return statement(
        f"""
        SELECT {SHOWN} FROM conversations WHERE {" AND ".join(wanted)}
        ORDER BY created_at DESC, id DESC LIMIT {limit:d} {"OFFSET :skip" if skips else ""}
        """
    )
