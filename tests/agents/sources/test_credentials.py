"""Credentials as they are mounted, and out of URLs."""

from pathlib import Path

from sightline_agent.sources.credentials import Credentials, mounted, split_url


def test_what_is_mounted_is_read_anew(tmp_path: Path) -> None:
    read = mounted(tmp_path)
    assert read() is None
    (tmp_path / "token").write_text("stream-key\n")
    assert read() == Credentials("", "", "stream-key")
    (tmp_path / "username").write_text("alice")
    (tmp_path / "password").write_text(" secret \r\n")
    found = read()
    assert found == Credentials("alice", " secret ", "stream-key")
    assert not any(word in repr(found) for word in ("alice", "secret", "stream-key"))


def test_urls_are_taken_apart() -> None:
    assert split_url("rtmp://host:1/live/key?x=1") == ("rtmp://host:1/live/key?x=1", None)
    assert split_url("rtmp://al%20ice:p%40ss@host:1/live/key?x=1") == (
        "rtmp://host:1/live/key?x=1",
        Credentials("al ice", "p@ss"),
    )
