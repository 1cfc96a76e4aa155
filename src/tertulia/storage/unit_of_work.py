"""Everything one transaction may touch."""

from tertulia.storage.connection import Connection
from tertulia.storage.repositories.agents import AgentRepository
from tertulia.storage.repositories.api_keys import ApiKeyRepository
from tertulia.storage.repositories.conversations import ConversationRepository
from tertulia.storage.repositories.idempotency import IdempotencyRepository
from tertulia.storage.repositories.jobs import JobRepository
from tertulia.storage.repositories.leases import LeaseRepository
from tertulia.storage.repositories.messages import MessageRepository
from tertulia.storage.repositories.run_events import RunEventRepository
from tertulia.storage.repositories.runs import RunRepository
from tertulia.storage.repositories.search import SearchRepository
from tertulia.storage.repositories.sessions import SessionRepository
from tertulia.storage.repositories.starts import StartRepository
from tertulia.storage.repositories.users import UserRepository


class UnitOfWork:
    """The repositories, all on one connection.

    A repository is a connection and a vocabulary, nothing that costs anything to make.
    """

    __slots__ = (
        "agents",
        "api_keys",
        "connection",
        "conversations",
        "idempotency",
        "jobs",
        "leases",
        "messages",
        "run_events",
        "runs",
        "search",
        "sessions",
        "starts",
        "users",
    )

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.users = UserRepository(connection)
        self.sessions = SessionRepository(connection)
        self.api_keys = ApiKeyRepository(connection)
        self.conversations = ConversationRepository(connection)
        self.messages = MessageRepository(connection)
        self.runs = RunRepository(connection)
        self.starts = StartRepository(connection)
        self.leases = LeaseRepository(connection)
        self.run_events = RunEventRepository(connection)
        self.idempotency = IdempotencyRepository(connection)
        self.jobs = JobRepository(connection)
        self.search = SearchRepository(connection)
        self.agents = AgentRepository(connection)
