"""Conversations of pydantic-ai's agents, kept where all the others are.

`PostgresConversationStore` is a `ConversationStore` of pydantic-ai's. What its agents say are
conversations like any other, and it reads those of the other doors. See `docs/pydantic-ai.md`.
"""

from tertulia.pydantic_ai.store import PostgresConversationStore

__all__ = ["PostgresConversationStore"]
