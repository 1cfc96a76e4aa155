"""`tertulia user`: accounts, by whoever may use the database."""

import sys
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import typer

from tertulia.auth.administration import UserAdministration
from tertulia.cli.database import database, migrate
from tertulia.cli.errors import CommandFailed
from tertulia.cli.progress import Terminal
from tertulia.cli.settings import DataDir, load_settings
from tertulia.cli.users import with_users
from tertulia.domain.errors import TertuliaError
from tertulia.domain.users import User
from tertulia.http.paging import Page

PAGE_USERS = 200
Email = Annotated[str, typer.Argument(help="Of the account.")]
Result = TypeVar("Result")


def command() -> typer.Typer:
    """Return the group."""
    group = typer.Typer(
        add_completion=False,
        help="Make, list, close, open and delete accounts.",
        no_args_is_help=True,
    )
    group.command()(create)
    group.command("list")(list_users)
    group.command()(deactivate)
    group.command()(activate)
    group.command()(delete)
    return group


def create(
    email: Email,
    username: Annotated[str, typer.Argument(help="3 to 50 characters.")],
    admin: Annotated[bool, typer.Option("--admin", help="Make them an administrator.")] = False,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Make an account. The password is asked for, never an argument."""
    password = _password(from_stdin=password_stdin)

    async def work(users: UserAdministration) -> User:
        return await users.create_user(
            email=email, username=username, password=password, is_admin=admin
        )

    user = _run(work, data_dir)
    Terminal().good(f"Made {_shown(user)}.")


def list_users(data_dir: DataDir = None) -> None:
    """List all accounts, newest first."""
    terminal = Terminal()

    async def work(users: UserAdministration) -> None:
        cursor: str | None = None
        while True:
            page: Page[User] = await users.list_users(limit=PAGE_USERS, cursor=cursor)
            for user in page.items:
                terminal.print(_shown(user))
            cursor = page.next_cursor
            if cursor is None:
                return

    _run(work, data_dir)


def deactivate(email: Email, data_dir: DataDir = None) -> None:
    """Close an account at once: no login, token or API key opens it."""
    _set_active(email, data_dir, is_active=False)


def activate(email: Email, data_dir: DataDir = None) -> None:
    """Open a closed account again."""
    _set_active(email, data_dir, is_active=True)


def delete(
    email: Email,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Delete an account and everything under it, for good. See also: deactivate."""
    if not yes:
        _confirm(f"Delete {email}, with all conversations, messages and keys, for good?")

    async def work(users: UserAdministration) -> None:
        await users.delete(email)

    _run(work, data_dir)
    Terminal().good(f"Deleted {email} and everything under it.")


def _set_active(email: str, data_dir: DataDir, *, is_active: bool) -> None:
    async def work(users: UserAdministration) -> User:
        return await users.set_active(email, is_active=is_active)

    user = _run(work, data_dir)
    Terminal().good(f"Now: {_shown(user)}.")


def _run(work: Callable[[UserAdministration], Awaitable[Result]], data_dir: DataDir) -> Result:
    """Do `work` on the settings' database, which is migrated first."""
    settings = load_settings(data_dir)
    with database(settings, Terminal().step) as dsn:
        migrate(dsn)
        try:
            return with_users(dsn, work)
        except TertuliaError as error:
            raise CommandFailed(f"{str(error).rstrip('.')}.") from error


def _confirm(question: str) -> None:
    if not sys.stdin.isatty():
        raise CommandFailed("There is no terminal to ask at: use --yes", exit_code=2)
    if not typer.confirm(question):
        raise CommandFailed("Nothing was deleted.")


def _password(*, from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\n")
    if not sys.stdin.isatty():
        raise CommandFailed(
            "There is no terminal to ask for a password: use --password-stdin", exit_code=2
        )
    password: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    return password


def _shown(user: User) -> str:
    notes = [*(["administrator"] if user.is_admin else []), *([] if user.is_active else ["closed"])]
    return f"{user.email}  {user.username}  {', '.join(notes)}".rstrip()
