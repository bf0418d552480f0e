"""What `sightline dev` says when it cannot start: one sentence and an exit status, no traceback."""

import asyncio
import errno
import os
import socket
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sightline_cli.dev import command
from sightline_cli.main import app
from sightline_kube.cache import Cache
from sightline_kube.cluster import EventType
from sightline_kube.kinds import CAMERA
from sightline_operator import diagnosis
from sightline_operator.build import CONTAINER
from sightline_operator.core import KINDS
from sightline_operator.diagnosis import AgentCase
from sightline_operator.facts import LinkState

ENDED = {
    "name": CONTAINER,
    "state": {"waiting": {"reason": "CrashLoopBackOff"}},
    "lastState": {"terminated": {"exitCode": 1, "reason": "Error"}},
}


def test_the_version_is_told_either_way() -> None:
    told = {CliRunner().invoke(app, [words]).output for words in ("version", "--version")}
    assert told == {f"{metadata.version('sightline-cli')}\n"}


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


def test_logs_are_named_as_they_can_be_read_here(tmp_path: Path) -> None:
    pod = {"metadata": {"name": "camera-door-abc", "uid": "1"}, "spec": {}, "status": {"containerStatuses": [ENDED]}}
    case = AgentCase("default", pod, LinkState(), "2", "", datetime(2026, 1, 1, tzinfo=UTC))
    said = diagnosis.agent(case).message
    assert "kubectl logs" in said
    shown = command._without_kubectl(said, tmp_path)
    assert (shown.endswith(f" {tmp_path}/logs/camera-door-abc.log"), "kubectl" in shown) == (True, False)


def test_brackets_are_no_markup(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    command._announce(command.Options(0, "a[/b]&c", (), False, None), "http://[::1]:8000", tmp_path / "[d]")
    shown = capsys.readouterr().out
    said = ("Sightline runs", "#token=a%5B%2Fb%5D%26c\n", "token  a[/b]&c", "/[d]")
    assert [word for word in said if word not in shown] == []


async def test_states_are_told_as_they_are(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    cache = Cache(KINDS)
    ready = {"type": "Ready", "status": "False", "message": "[fe80::1]:554 cannot be reached"}
    status = {"phase": "Degraded", "conditions": [ready]}
    metadata = {"name": "door", "namespace": "default", "uid": "1", "resourceVersion": "1"}
    cache.observe(CAMERA, EventType.ADDED, {"kind": "Camera", "metadata": metadata, "status": status})
    telling = asyncio.create_task(command._tell_states(cache, tmp_path))
    await asyncio.sleep(0)
    telling.cancel()
    await asyncio.gather(telling, return_exceptions=True)
    assert "  camera door: Degraded [fe80::1]:554 cannot be reached\n" in capsys.readouterr().out


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
