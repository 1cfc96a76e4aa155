"""The schema, as SQLAlchemy Core tables. Rows are never defaulted in Python: the database does."""

from tertulia.storage.tables.agents import agent_conversations, agent_messages
from tertulia.storage.tables.conversations import branches, conversations, messages
from tertulia.storage.tables.metadata import metadata
from tertulia.storage.tables.runs import idempotency_keys, jobs, run_events, runs
from tertulia.storage.tables.users import api_keys, sessions, users

__all__ = [
    "agent_conversations",
    "agent_messages",
    "api_keys",
    "branches",
    "conversations",
    "idempotency_keys",
    "jobs",
    "messages",
    "metadata",
    "run_events",
    "runs",
    "sessions",
    "users",
]
