"""S: what a tutorial would have you write: FastAPI with SQLAlchemy's ORM, synchronous.

A session for each request and a look-up of its user, `len(conversation.messages)`, offsets. Its
tables have the indexes that tutorials forget, and its pool is larger than their default, which
stands still at sixty connections.
"""

import os
import uuid
from collections.abc import Generator
from datetime import UTC, datetime
from typing import Annotated, Any

import jwt
from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Boolean, DateTime, ForeignKey, String, Text, create_engine
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    relationship,
    sessionmaker,
)

from benchmarks.yardsticks.serving import serve

DSN = "TUTORIAL_DSN"
"""The variable that says which database is its own."""
_KEY = os.environ.get("SECRET_KEY", "")
_POOL = 40

engine = create_engine(
    os.environ.get(DSN, "postgresql://").replace("postgresql:", "postgresql+psycopg:", 1),
    pool_size=_POOL,
    max_overflow=0,
)
SessionLocal = sessionmaker(bind=engine, expire_on_commit=False)


def _now() -> datetime:
    return datetime.now(UTC)


class Base(DeclarativeBase):
    """What all tables share."""


class User(Base):
    """Somebody with an account."""

    __tablename__ = "users"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(100), unique=True)
    username: Mapped[str] = mapped_column(String(50), unique=True)
    hashed_password: Mapped[str] = mapped_column(String(255))
    is_active: Mapped[bool] = mapped_column(Boolean, default=True)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=_now)
    conversations: Mapped[list["Conversation"]] = relationship(back_populates="user")


class Conversation(Base):
    """A conversation, which knows its messages."""

    __tablename__ = "conversations"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    user_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("users.id"), index=True)
    title: Mapped[str] = mapped_column(String(200))
    is_archived: Mapped[bool] = mapped_column(Boolean, default=False, index=True)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=_now, index=True)
    updated_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), default=_now, onupdate=_now
    )
    user: Mapped[User] = relationship(back_populates="conversations")
    messages: Mapped[list["Message"]] = relationship(
        back_populates="conversation", order_by="Message.created_at"
    )


class Message(Base):
    """A message."""

    __tablename__ = "messages"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid1)
    conversation_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("conversations.id"), index=True)
    role: Mapped[str] = mapped_column(String(20))
    content: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=_now)
    conversation: Mapped[Conversation] = relationship(back_populates="messages")


class ConversationResponse(BaseModel):
    """A conversation on the wire."""

    model_config = ConfigDict(from_attributes=True)

    id: uuid.UUID
    title: str
    is_archived: bool
    created_at: datetime
    updated_at: datetime
    message_count: int = 0


class MessageCreate(BaseModel):
    """A message to be stored."""

    role: str = Field(pattern="^(user|assistant|system)$")
    content: str = Field(min_length=1)


class MessageResponse(BaseModel):
    """A message on the wire."""

    model_config = ConfigDict(from_attributes=True)

    id: uuid.UUID
    conversation_id: uuid.UUID
    role: str
    content: str
    created_at: datetime


app = FastAPI(title="AI agent")
_bearer = HTTPBearer()


def get_db() -> Generator[Session]:
    """Lend a session for a request."""
    with SessionLocal() as db:
        yield db


Db = Annotated[Session, Depends(get_db)]


def get_current_user(
    credentials: Annotated[HTTPAuthorizationCredentials, Depends(_bearer)], db: Db
) -> User:
    """Return who asks."""
    try:
        claims: dict[str, Any] = jwt.decode(credentials.credentials, _KEY, algorithms=["HS256"])  # pyright: ignore[reportUnknownMemberType]  its key may be of a library that is not installed
    except jwt.PyJWTError as error:
        raise HTTPException(401, "Invalid token") from error
    user = db.query(User).filter(User.id == uuid.UUID(claims["sub"])).first()
    if user is None or not user.is_active:
        raise HTTPException(401, "No such user")
    return user


CurrentUser = Annotated[User, Depends(get_current_user)]


def _owned(db: Session, conversation_id: uuid.UUID, user: User) -> Conversation:
    found = (
        db.query(Conversation)
        .filter(Conversation.id == conversation_id, Conversation.user_id == user.id)
        .first()
    )
    if found is None:
        raise HTTPException(404, "Conversation not found")
    return found


@app.get("/conversations")
def list_conversations(
    db: Db, user: CurrentUser, skip: int = 0, limit: int = 10
) -> list[ConversationResponse]:
    """List the newest, with how many messages each has."""
    found = (
        db.query(Conversation)
        .filter(Conversation.user_id == user.id)
        .order_by(Conversation.created_at.desc())
        .offset(skip)
        .limit(limit)
        .all()
    )
    shown: list[ConversationResponse] = []
    for conversation in found:
        response = ConversationResponse.model_validate(conversation)
        response.message_count = len(conversation.messages)
        shown.append(response)
    return shown


@app.get("/conversations/{conversation_id}/messages", response_model=list[MessageResponse])
def list_messages(
    conversation_id: uuid.UUID, db: Db, user: CurrentUser, skip: int = 0, limit: int = 50
) -> list[Message]:
    """List the first."""
    _owned(db, conversation_id, user)
    return (
        db.query(Message)
        .filter(Message.conversation_id == conversation_id)
        .order_by(Message.created_at)
        .offset(skip)
        .limit(limit)
        .all()
    )


@app.post(
    "/conversations/{conversation_id}/messages", response_model=MessageResponse, status_code=201
)
def create_message(
    conversation_id: uuid.UUID, body: MessageCreate, db: Db, user: CurrentUser
) -> Message:
    """Store one."""
    _owned(db, conversation_id, user)
    message = Message(conversation_id=conversation_id, role=body.role, content=body.content)
    db.add(message)
    db.commit()
    db.refresh(message)
    return message


def create_tables(dsn: str) -> None:
    """Make its tables in a database."""
    made = create_engine(dsn.replace("postgresql:", "postgresql+psycopg:", 1))
    Base.metadata.create_all(made)
    made.dispose()


if __name__ == "__main__":
    serve(app)
