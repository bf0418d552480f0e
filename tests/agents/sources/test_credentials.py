"""Credentials as they are mounted, and out of URLs."""

from pathlib import Path

import pytest

from sightline_agent.runtime import prepare
from sightline_agent.settings import parse
from sightline_agent.sources.base import Source, SourceError
from sightline_agent.sources.credentials import Credentials, mounted, split_url
from sightline_agent.sources.factory import source_factory
from sightline_model.agent import AgentConfig, CameraIdentity
from sightline_model.camera import RtmpSource, RtspSource, SecretReference, WhepSource
from sightline_model.camera import Source as SourceSpec
from sightline_model.reasons import SourceReason
from tests.helpers.rtsp_server import Habits, RtspServer
from tests.helpers.rtsp_watch import Recorder, on_camera

LOGIN = SecretReference(name="login")
OTHERS = [None, SecretReference(name="mine")]
OTHER_IDS = ["no Secret", "another Secret"]


def mount(folder: Path, **files: str) -> Path:
    """The Secret `login`, as the operator mounts it for the main quality."""
    secret = folder / "main" / "login"
    secret.mkdir(parents=True)
    for name, text in files.items():
        (secret / name).write_text(text)
    return secret


def test_what_is_mounted_is_read_anew(tmp_path: Path) -> None:
    read = mounted(tmp_path / "main")
    assert read("login") is None
    secret = mount(tmp_path, token="stream-key\n")
    assert read("login") == Credentials("", "", "stream-key")
    (secret / "username").write_text("alice")
    (secret / "password").write_text(" secret \r\n")
    found = read("login")
    assert found == Credentials("alice", " secret ", "stream-key")
    assert not any(word in repr(found) for word in ("alice", "secret", "stream-key"))


@pytest.mark.parametrize("reference", OTHERS, ids=OTHER_IDS)
@pytest.mark.parametrize("kind", ["rtsp", "rtmp", "whep"])
def test_only_the_secret_that_the_source_names_is_read(
    tmp_path: Path, kind: str, reference: SecretReference | None
) -> None:
    mount(tmp_path, username="admin", password="hunter2", token="key")
    asked: list[Credentials | None] = []

    def read(secret: str | None) -> Credentials | None:
        asked.append(mounted(tmp_path / "main")(secret))
        return asked[-1]

    make = source_factory(read)
    make(source(kind, reference))
    make(source(kind, LOGIN))
    assert asked == [None, Credentials("admin", "hunter2", "key")]


def source(kind: str, reference: SecretReference | None) -> SourceSpec:
    """A source whose server is not asked."""
    if kind == "rtsp":
        return SourceSpec(rtsp=RtspSource(url="rtsp://camera.lan/1", credentials_ref=reference))
    if kind == "rtmp":
        return SourceSpec(rtmp=RtmpSource(url="rtmp://camera.lan/app", credentials_ref=reference))
    return SourceSpec(whep=WhepSource(url="https://camera.lan/whep", token_ref=reference))


@pytest.mark.parametrize("reference", OTHERS, ids=OTHER_IDS)
def test_a_server_that_asks_gets_no_password_that_was_given_for_another_camera(
    tmp_path: Path, reference: SecretReference | None
) -> None:
    """A pod whose Secret is still mounted starts from, or is told, a config of somebody who may not read that."""
    mount(tmp_path / "credentials", username="admin", password="hunter2")

    async def scenario(server: RtspServer) -> None:
        with pytest.raises(SourceError) as caught:
            await make(tmp_path, server.url, reference).run(Recorder(1))
        assert caught.value.reason is SourceReason.AUTHENTICATION_FAILED
        assert server.methods() == ["OPTIONS", "DESCRIBE"], "asked again with a password"

    on_camera(Habits(username="admin", password="other", scheme="Basic"), scenario)


def test_the_camera_that_the_password_was_given_for_gets_it(tmp_path: Path) -> None:
    mount(tmp_path / "credentials", username="admin", password="hunter2")

    async def scenario(server: RtspServer) -> None:
        with pytest.raises(SourceError):
            await make(tmp_path, server.url, LOGIN).run(Recorder(1))
        assert server.methods() == ["OPTIONS", "DESCRIBE", "DESCRIBE"]

    on_camera(Habits(username="admin", password="other", scheme="Basic"), scenario)


def make(folder: Path, url: str, reference: SecretReference | None) -> Source:
    """The main source of an agent that starts from that folder."""
    spec = SourceSpec(rtsp=RtspSource(url=url, credentials_ref=reference))
    config = AgentConfig(camera=CameraIdentity(namespace="default", name="door", uid="1"), source=spec)
    (folder / "agent.json").write_text(config.model_dump_json(by_alias=True))
    start = prepare(parse(["--config", str(folder), "--credentials", str(folder / "credentials")]))
    return source_factory(start.credentials_of("main"))(start.config.source)


def test_urls_are_taken_apart() -> None:
    assert split_url("rtmp://host:1/live/key?x=1") == ("rtmp://host:1/live/key?x=1", None)
    assert split_url("rtmp://al%20ice:p%40ss@host:1/live/key?x=1") == (
        "rtmp://host:1/live/key?x=1",
        Credentials("al ice", "p@ss"),
    )
