"""The server's own secret key."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tertulia.cli.errors import CommandFailed
from tertulia.cli.secret_key import keep_secret_key


def test_it_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    first = keep_secret_key(tmp_path / "data")
    assert len(first) >= 32
    assert (tmp_path / "data" / "secret_key").stat().st_mode & 0o777 == 0o600
    assert keep_secret_key(tmp_path / "data") == first
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["secret_key"]


def test_many_at_once_get_the_same_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as threads:
        keys = set(threads.map(keep_secret_key, [tmp_path] * 64))
    assert len(keys) == 1


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    keep_secret_key(tmp_path)
    (tmp_path / "secret_key").chmod(0o644)
    with pytest.raises(CommandFailed, match="chmod 600"):
        keep_secret_key(tmp_path)


@pytest.mark.parametrize("content", ["", "short\n"])
def test_a_broken_key_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "secret_key").touch(mode=0o600)
    (tmp_path / "secret_key").write_text(content)
    with pytest.raises(CommandFailed, match="holds no secret key"):
        keep_secret_key(tmp_path)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("x" * 64)
    (tmp_path / "secret_key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CommandFailed, match="cannot be used"):
        keep_secret_key(tmp_path)
