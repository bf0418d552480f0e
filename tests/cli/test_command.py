"""What `sightline dev` says when it cannot start: one sentence and an exit status, no traceback."""

import asyncio
import errno
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sightline_cli.dev import command
from sightline_cli.main import app


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["dev", "--no-open", *arguments], env={"COLUMNS": "200", "NO_COLOR": "1"})


@pytest.fixture(autouse=True)
def _never_started(monkeypatch: pytest.MonkeyPatch) -> None:
    async def started(*_: Any) -> int:
        raise AssertionError("it was started")

    monkeypatch.setattr(command, "_serve", started)
    monkeypatch.setattr(command, "_log_to", lambda _: None)


@pytest.mark.parametrize("port", ["65536", "-1", "many"])
def test_a_port_that_is_none(port: str) -> None:
    result = run("--port", port)
    assert result.exit_code == 2
    assert "--port" in result.output


@pytest.mark.parametrize("token", ["a b", "caf\u00e9", "a\tb", "x" * 20_000])
def test_a_token_that_no_request_could_carry(token: str) -> None:
    result = run("--token", token)
    assert result.exit_code == 2
    assert "--token" in result.output


@pytest.mark.parametrize("file", ["taken", "taken/below"])
def test_a_state_folder_that_is_none(tmp_path: Path, file: str) -> None:
    (tmp_path / "taken").write_text("")
    result = run("--state", str(tmp_path / file))
    assert (result.exit_code, type(result.exception)) == (1, SystemExit)
    assert str(tmp_path / file) in result.output


@pytest.mark.parametrize(
    ("number", "words"), [(errno.EADDRINUSE, "port 80 is taken"), (errno.EACCES, "port 80 cannot be used")]
)
def test_a_port_that_is_not_to_be_had(monkeypatch: pytest.MonkeyPatch, number: int, words: str) -> None:
    class Refusing(socket.socket):
        def bind(self, address: Any) -> None:
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(socket, "socket", Refusing)
    with pytest.raises(command.PortTakenError, match=words):
        command._listen(80)


async def test_it_goes_on_until_it_is_told_to_stop_or_a_part_ends(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def rests() -> None:
        await asyncio.Event().wait()

    async def fails() -> None:
        raise RuntimeError("a bug")

    resting, failing = asyncio.create_task(rests()), asyncio.create_task(fails())
    told = asyncio.Event()
    told.set()
    assert await command._until(told, [resting])
    assert not await command._until(asyncio.Event(), [resting, failing])
    resting.cancel()
    ends = await asyncio.gather(resting, failing, return_exceptions=True)
    assert command._complain(ends, tmp_path)
    assert "a bug" in capsys.readouterr().err
    assert not command._complain(ends[:1], tmp_path)
