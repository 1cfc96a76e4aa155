"""The login that is kept."""

import os
import threading
from pathlib import Path

import pytest

from tertulia.cli.logins import KeptLogin, config_dir

HERE = "http://127.0.0.1:8000"


def test_a_login_is_kept_for_its_owner_only(tmp_path: Path) -> None:
    kept = KeptLogin(tmp_path / "tertulia", HERE)
    with kept.alone():
        kept.keep("first")
        kept.keep("second")
    assert kept.find() == "second"
    (file,) = (tmp_path / "tertulia").glob("*.json")
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


def test_each_server_has_its_own(tmp_path: Path) -> None:
    here, there = KeptLogin(tmp_path, HERE), KeptLogin(tmp_path, "https://there.example")
    here.keep("mine")
    there.keep("theirs")
    here.forget()
    assert (here.find(), there.find()) == (None, "theirs")


@pytest.mark.parametrize("content", ["", "[]", '{"http://127.0.0.1:8000": 1}', "\xff"])
def test_a_file_that_makes_no_sense_holds_no_login(tmp_path: Path, content: str) -> None:
    (tmp_path / "logins.json").write_text(content, encoding="latin-1")
    assert KeptLogin(tmp_path, HERE).find() is None


def test_two_take_turns(tmp_path: Path) -> None:
    kept = KeptLogin(tmp_path, HERE)
    kept.keep("old")
    seen: list[str | None] = []

    def other() -> None:
        with kept.alone():
            seen.append(kept.find())

    thread = threading.Thread(target=other)
    with kept.alone():
        thread.start()
        kept.keep("new")
    thread.join()
    assert seen == ["new"]


def test_the_directory_is_where_the_user_wants_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment is the interface under test."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert config_dir() == tmp_path / "tertulia"

    # What is not absolute is to be ignored (XDG Base Directory Specification).
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert config_dir().is_relative_to(tmp_path)
    assert config_dir() != Path(os.curdir)
