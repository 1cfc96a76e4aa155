"""`tertulia db`, `user` and `doctor`."""

import pytest

from tertulia import __version__
from tertulia.storage import migrations
from tests.cli.processes import run
from tests.cli.serving import PASSWORD, SECRET_KEY, Home
from tests.kit.stage import fetch_number
from tests.kit.stage import run as run_in_loop

NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"


@pytest.fixture
def told(home: Home, dsn: str) -> Home:
    """A home whose settings name the test's database, which is migrated."""
    home.settings = {"DATABASE_URL": dsn, "SECRET_KEY": SECRET_KEY}
    return home


def test_the_schema_goes_down_and_up(told: Home) -> None:
    assert told.command("db", "current").stdout.strip() == migrations.head()

    assert "at revision none" in told.command("db", "downgrade", "base").stdout

    assert f"at revision {migrations.head()}" in told.command("db", "upgrade").stdout


def test_an_unknown_revision_is_named_without_a_traceback(told: Home) -> None:
    done = told.command("db", "upgrade", "nowhere")
    assert done.returncode == 1
    assert "'nowhere'" in done.stderr
    assert "Traceback" not in done.stderr


def test_accounts_are_made_listed_closed_and_opened(told: Home, dsn: str) -> None:
    who = ("bob@example.com", "bob")
    made = told.command("user", "create", *who, "--admin", "--password-stdin", stdin=PASSWORD)
    assert made.returncode == 0
    assert PASSWORD not in made.stdout + made.stderr

    assert told.command("user", "deactivate", who[0]).returncode == 0
    assert told.command("user", "list").stdout.split() == [*who, "administrator,", "closed"]

    assert told.command("user", "activate", who[0]).stdout.split()[-1] == "administrator."

    assert "Deleted" in told.command("user", "delete", "BOB@example.com", "--yes").stdout
    assert run_in_loop(fetch_number(dsn, "SELECT count(*) FROM users")) == 0


@pytest.mark.parametrize(
    ("arguments", "stdin", "words"),
    [
        (("create", "bob@example.com", "bob", "--password-stdin"), "x", "characters"),
        (("create", "bob@example.com", "bob"), PASSWORD, "--password-stdin"),
        (("deactivate", "nobody@example.com"), "", "not found"),
        (("delete", "nobody@example.com", "--yes"), "", "not found"),
        (("delete", "nobody@example.com"), "y\n", "--yes"),
    ],
    ids=["password", "no terminal", "nobody", "nobody to delete", "nobody to ask"],
)
def test_what_cannot_be_done_is_said_without_a_traceback(
    told: Home, arguments: tuple[str, ...], stdin: str, words: str
) -> None:
    done = told.command("user", *arguments, stdin=stdin)
    assert done.returncode in {1, 2}
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments", [("doctor",), ("db", "current"), ("user", "list")], ids=lambda words: words[0]
)
def test_nobody_waits_long_for_a_database_that_is_not_there(
    home: Home, arguments: tuple[str, ...]
) -> None:
    home.settings = {"DATABASE_URL": NOWHERE, "SECRET_KEY": SECRET_KEY}
    done = home.command(*arguments)
    assert done.returncode == 1
    said = done.stdout + done.stderr
    assert "PostgreSQL did not answer for 3 s: nothing listens at 127.0.0.1:1." in said
    assert "Traceback" not in said


def test_it_says_which_version_it_is(home: Home) -> None:
    done = run("tertulia", ("--version",), env=home.env, cwd=home.directory)
    assert done.stdout.split() == ["tertulia", __version__]


def test_a_terminal_without_utf_8_is_no_reason_to_fail(home: Home) -> None:
    env = home.env | {"PYTHONIOENCODING": "ascii", "TERTULIA_POOL_SIZE": "many"}
    done = run("tertulia", ("doctor",), env=env, cwd=home.directory)
    assert done.returncode == 2
    assert done.stdout.startswith("? These settings are wrong:")


def test_without_a_database_url_commands_use_the_embedded_one(home: Home) -> None:
    create = ("create", "bob@example.com", "bob", "--password-stdin")
    assert home.command("user", *create, stdin=PASSWORD).returncode == 0
    assert home.postgres_pid() is None
    assert "bob@example.com" in home.command("user", "list").stdout
    assert home.postgres_pid() is None


def test_the_doctor_finds_a_forgetful_database_and_a_silent_provider(told: Home) -> None:
    done = told.command("doctor")
    assert done.returncode == 1
    assert not done.stderr
    said = done.stdout
    assert "free for data" not in said
    in_order = [
        "The settings can be read",
        "fsync is off",
        "The provider 'openai' cannot list its models",
        "2 of the checks above failed",
    ]
    assert [words for words in in_order if words in said] == in_order
    assert sorted(in_order, key=said.index) == in_order


@pytest.mark.model
def test_the_doctor_finds_nothing_wrong_without_settings(home: Home) -> None:
    home.settings = {
        "TERTULIA_LOCAL_MODEL": "true",
        "TERTULIA_DEFAULT_MODEL": "",
        "OPENAI_BASE_URL": "",
    }
    done = home.command("doctor")
    assert done.returncode == 0, done.stderr
    assert "All is well" in done.stdout
    assert "answered by local:" in done.stdout
