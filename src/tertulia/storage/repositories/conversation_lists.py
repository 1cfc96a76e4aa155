"""The statements that list conversations, newest first: one for each set of filters."""

from tertulia.storage.statements import Statement, statement

SHOWN = (
    "id, user_id, title, model_type, is_archived, metadata, message_count, head_id, created_at, "
    "updated_at"
)
# What is temporary is found by those only who hold its run: no list shows it, and nobody reads or
# names it. Not a parameter: the planner would guess that it leaves many out.
LASTING = "retention <> 'temporary'"


def _list_statement(*, archived: bool, model_type: bool, after: bool) -> Statement:
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
        ORDER BY created_at DESC, id DESC LIMIT :limit OFFSET :skip
        """
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
