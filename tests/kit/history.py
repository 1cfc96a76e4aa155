"""What clients did, were promised and saw, judged against the database when all is over.

Every operation ends as `ok` (acknowledged: it must be there), `failed` (refused: it must not be
there) or `unknown` (no answer came: it may be there, once). The judge also reads what a trigger of
the test's wrote down: each change of a run's state, with the attempt that made it.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID

import asyncpg
import httpx2

from .stage import fetch

_AUDIT = """
    CREATE TABLE run_transitions (
        id bigserial PRIMARY KEY, run_id uuid, old text, new text, attempt integer
    );
    CREATE FUNCTION note_transition() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO run_transitions (run_id, old, new, attempt)
        VALUES (NEW.id, OLD.status, NEW.status, NEW.attempt);
        RETURN NEW;
    END $$;
    CREATE TRIGGER note_transition AFTER UPDATE OF status ON runs
        FOR EACH ROW EXECUTE FUNCTION note_transition();

    CREATE TABLE stale_events (run_id uuid, seq integer, attempt integer);
    CREATE FUNCTION note_stale_event() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO stale_events SELECT NEW.run_id, NEW.seq, NEW.attempt
        WHERE NOT EXISTS (SELECT FROM runs WHERE id = NEW.run_id AND attempt = NEW.attempt);
        RETURN NEW;
    END $$;
    CREATE TRIGGER note_stale_event AFTER INSERT ON run_events
        FOR EACH ROW EXECUTE FUNCTION note_stale_event();
"""
_TERMINAL = ("completed", "cancelled", "failed")


async def install_audit(dsn: str) -> None:
    """Have the database write down how runs change, and events of attempts that are over."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(_AUDIT)
    finally:
        await connection.close()


@dataclass
class Operation:
    """One message sent to be answered."""

    conversation_id: str
    key: str | None
    content: str
    state: Literal["invoked", "ok", "failed", "unknown"] = "invoked"
    status: int | None = None
    body: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def run_id(self) -> str:
        assert self.state == "ok", (self.state, self.status, self.body)
        return str(self.body["id"])

    def answered(self, answer: httpx2.Response) -> None:
        """Note an answer: acknowledged, refused, or (5xx) who knows."""
        self.status, self.body = answer.status_code, answer.json()
        if answer.status_code == 202:
            self.state = "ok"
        else:
            self.state = "failed" if answer.status_code < 500 else "unknown"

    def unknown(self) -> None:
        """Note that no answer came."""
        self.state = "unknown"


@dataclass
class History:
    """Everything that was sent and seen. Contents must be unique, but for repeats under one key."""

    operations: list[Operation] = field(default_factory=list[Operation])
    seen: dict[str, set[tuple[int | None, str]]] = field(
        default_factory=lambda: defaultdict[str, set[tuple[int | None, str]]](set)
    )
    """By run: the texts that readers had before them, each with the restart it came after."""

    def invoke(self, conversation_id: str, *, key: str | None, content: str) -> Operation:
        """Note that a message is about to be sent."""
        operation = Operation(conversation_id, key, content)
        self.operations.append(operation)
        return operation

    def saw(self, run_id: str, restart_attempt: int | None, text: str) -> None:
        """Note what a reader has before them."""
        texts = self.seen[run_id]
        # Only the longest of a growing text is worth keeping.
        grown = {(a, t) for a, t in texts if a == restart_attempt and text.startswith(t)}
        texts -= grown
        texts.add((restart_attempt, text))

    async def judge(self, dsn: str) -> None:
        """Compare with the database.

        Raises:
            AssertionError: Something acknowledged is lost, something is doubled, a reader saw what
                is not stored, a run ended twice, or an ended run left events behind.
        """
        await self._judge_messages(dsn)
        await self._judge_texts(dsn)
        await judge_runs(dsn)

    async def _judge_messages(self, dsn: str) -> None:
        rows = await fetch(dsn, "SELECT content FROM messages WHERE role = 'user'")
        stored = Counter(str(row["content"]) for row in rows)
        runs = {str(row["id"]) for row in await fetch(dsn, "SELECT id FROM runs")}
        by_content: dict[str, list[Operation]] = defaultdict(list)
        for operation in self.operations:
            by_content[operation.content].append(operation)
        for content, operations in by_content.items():
            states = {operation.state for operation in operations}
            if "ok" in states:
                assert stored[content] == 1, f"acknowledged and stored {stored[content]} times"
            elif "unknown" in states:
                assert stored[content] <= 1, f"stored {stored[content]} times under one key"
            else:
                assert stored[content] == 0, f"refused and stored: {content[:80]}"
            named = {operation.run_id for operation in operations if operation.state == "ok"}
            assert len(named) <= 1, f"one message was answered by {len(named)} runs"
            assert named <= runs, "an acknowledged run is lost"

    async def _judge_texts(self, dsn: str) -> None:
        ids = [UUID(run_id) for run_id in self.seen]
        rows = await fetch(
            dsn,
            """
            SELECT r.id, r.restart_attempt, m.content, r.status FROM runs r
            JOIN messages m ON m.id = r.message_id WHERE r.id = ANY($1)
            """,
            ids,
        )
        for row in rows:
            text, attempt = str(row["content"]), row["restart_attempt"]
            if row["status"] not in _TERMINAL:
                text, attempt = await _said_so_far(dsn, row["id"])
            for seen_attempt, seen_text in self.seen[str(row["id"])]:
                if seen_attempt == attempt:
                    assert text.startswith(seen_text), "a reader saw what is not stored"
                else:
                    assert (seen_attempt or 0) < (attempt or 0), "a restart is not stored"


async def _said_so_far(dsn: str, run_id: UUID) -> tuple[str, int | None]:
    events = await fetch(
        dsn, "SELECT attempt, kind, data FROM run_events WHERE run_id = $1 ORDER BY seq", run_id
    )
    restarts = [event["attempt"] for event in events if event["kind"] == "restart"]
    text = "".join(event["data"] for event in events if event["kind"] == "text")
    return text, restarts[-1] if restarts else None


async def judge_runs(dsn: str) -> None:
    """Make sure that no run ended twice or left events behind, and that numbers have no gaps."""
    left_over = await fetch(
        dsn,
        """
        SELECT r.id FROM runs r WHERE r.status IN ('completed', 'cancelled', 'failed')
            AND EXISTS (SELECT FROM run_events e WHERE e.run_id = r.id)
        """,
    )
    assert not left_over, "an ended run has events left"
    gaps = await fetch(
        dsn,
        """
        SELECT run_id FROM run_events GROUP BY run_id
        HAVING max(seq) - min(seq) + 1 <> count(*)
            OR (min(seq) <> 1 AND NOT bool_or(kind = 'restart'))
        """,
    )
    assert not gaps, "events are missing"
    twice = await fetch(
        dsn,
        """
        SELECT run_id FROM run_transitions WHERE new IN ('completed', 'cancelled', 'failed')
        GROUP BY run_id HAVING count(*) > 1
        """,
    )
    assert not twice, "a run ended twice"
    stale = await fetch(dsn, "SELECT * FROM stale_events")
    assert not stale, "an attempt wrote after it was over"
    crowded = await fetch(
        dsn,
        """
        SELECT conversation_id FROM runs WHERE status = 'running'
        GROUP BY conversation_id HAVING count(*) > 1
        """,
    )
    assert not crowded, "a conversation has two running runs"
