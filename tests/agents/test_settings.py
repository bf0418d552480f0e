"""How the process is started, and what it answers to those who start it wrongly."""

import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from sightline_agent.__main__ import run
from sightline_agent.errors import SettingsError
from sightline_agent.runtime import prepare
from sightline_agent.settings import parse
from sightline_agent.standalone import parse_source
from sightline_model.agent import AgentConfig, CameraIdentity
from sightline_model.camera import AudioMode, Source, TranscodeMode
from sightline_model.camera import TestPatternSource as TestPatternSpec

CONFIG = AgentConfig(
    camera=CameraIdentity(namespace="default", name="door", uid="1"), source=Source(test_pattern=TestPatternSpec())
)


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No address from outside; what `run` does to logging is undone."""
    monkeypatch.delenv("POD_IP", raising=False)
    monkeypatch.delenv("POD_IPS", raising=False)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("sightline_agent").setLevel(logging.NOTSET)
    structlog.reset_defaults()


def mount(folder: Path, text: str = CONFIG.model_dump_json()) -> list[str]:
    (folder / "agent.json").write_text(text)
    return ["--config", str(folder), "--credentials", str(folder / "credentials")]


def test_in_a_pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POD_IP", "127.77.0.2")
    settings = parse(mount(tmp_path))
    assert (settings.bind, settings.control_port, settings.media_port) == (("127.77.0.2",), 8080, 5004)
    start = prepare(settings)
    assert start.config == CONFIG
    assert start.credentials_of("main")("login") is None
    secret = tmp_path / "credentials" / "main" / "login"
    secret.mkdir(parents=True)
    (secret / "username").write_text("admin\n")
    (secret / "password").write_text("hunter2\n")
    found = start.credentials_of("main")("login")
    assert found is not None
    assert (found.username, found.password) == ("admin", "hunter2")
    assert start.credentials_of("main")(None) is None
    assert start.credentials_of("main")("other") is None


@pytest.mark.parametrize(
    ("ip", "ips", "bind"),
    [
        ("10.0.0.1", "10.0.0.1", ("10.0.0.1",)),
        ("10.0.0.1", "10.0.0.1,fd00::1", ("10.0.0.1", "fd00::1")),
        ("fd00::1", "fd00::1,10.0.0.1", ("fd00::1", "10.0.0.1")),
        ("fd00::1", "", ("fd00::1",)),
        ("", "fd00::1,fd00::2", ("fd00::1",)),
    ],
)
def test_addresses_of_both_families(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ip: str, ips: str, bind: tuple[str, ...]
) -> None:
    monkeypatch.setenv("POD_IP", ip)
    monkeypatch.setenv("POD_IPS", ips)
    assert parse(mount(tmp_path)).bind == bind


def test_an_address_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POD_IPS", "10.0.0.1,pod")
    with pytest.raises(SettingsError):
        parse(mount(tmp_path))


def test_without_a_pod_address_every_address_is_bound(tmp_path: Path) -> None:
    assert parse(mount(tmp_path)).bind == ("0.0.0.0",)


def test_standalone_with_further_qualities() -> None:
    arguments = ["--standalone", "--source", "rtsp://admin:secret1@cam/1"]
    start = prepare(parse([*arguments, "--profile", "sd=rtsp://viewer:secret2@cam/2", "--profile", "tiny=test"]))
    assert [(one.name, one.source.kind) for one in start.config.profiles] == [("sd", "rtsp"), ("tiny", "testPattern")]
    found = start.credentials_of("sd")(None)
    assert found is not None
    assert (found.username, found.password) == ("viewer", "secret2")
    assert start.credentials_of("tiny")(None) is None
    assert "secret" not in repr(start)


@pytest.mark.parametrize("profiles", [["main=test"], ["S D=test"], ["=test"], ["sd"], ["sd=test", "sd=test"]])
def test_further_qualities_that_are_none(profiles: list[str]) -> None:
    given = [argument for profile in profiles for argument in ("--profile", profile)]
    with pytest.raises(SettingsError):
        prepare(parse(["--standalone", "--source", "test", *given]))


def test_standalone() -> None:
    arguments = ["--standalone", "--source", "rtsp://admin:hun%40ter2@cam:554/x?y=1", "--port", "0", "--udp-port", "0"]
    settings = parse([*arguments, "--allowed-origin", "https://a.example", "--allowed-origin", "https://b.example"])
    assert settings.bind == ("127.0.0.1",)
    assert settings.allowed_origins == ("https://a.example", "https://b.example")
    start = prepare(settings)
    assert start.config.source.rtsp is not None
    assert start.config.source.rtsp.url == "rtsp://cam:554/x?y=1"
    credentials = start.credentials_of("main")(None)
    assert credentials is not None
    assert (credentials.username, credentials.password) == ("admin", "hun@ter2")
    assert "hun" not in repr(settings) + repr(start)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("test", "testPattern"),
        ("testpattern://?width=640&height=360&fps=15", "testPattern"),
        ("rtsp://cam/x", "rtsp"),
        ("/videos/clip.mp4", "file"),
        ("clip.mp4", "file"),
        ("file:///videos/clip.mp4", "file"),
        ("https://example.org/clip.mp4", "file"),
        ("https://example.org/live/index.m3u8?x=1", "hls"),
        ("rtmp://example.org/live/key", "rtmp"),
        ("whep://token@example.org/whep", "whep"),
        ("/dev/video0", "v4l2"),
    ],
)
def test_sources(text: str, kind: str) -> None:
    assert parse_source(text)[0].kind == kind


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rtsp://cam/x#transport=udp", {"url": "rtsp://cam/x", "transport": "UDP"}),
        ("rtsps://cam/x#fingerprint=AB:cd", {"url": "rtsps://cam/x", "fingerprint": "AB:cd"}),
        ("rtsps://cam/x?y=1#transport=TCP&fingerprint=ab", {"url": "rtsps://cam/x?y=1", "transport": "TCP"}),
    ],
)
def test_how_to_reach_a_camera_stands_behind_its_address(text: str, expected: dict[str, str]) -> None:
    source, _ = parse_source(text)
    assert source.rtsp is not None
    assert expected.items() <= source.rtsp.model_dump().items()


def test_sound_and_transcoding_can_be_switched_off() -> None:
    start = prepare(parse(["--standalone", "--source", "test", "--audio", "None", "--transcode", "Never"]))
    assert (start.config.audio, start.config.transcode) == (AudioMode.NONE, TranscodeMode.NEVER)


def test_a_whep_endpoint_with_its_token() -> None:
    source, credentials = parse_source("wheps://to%2Fken@example.org:8443/cam/whep?x=1")
    assert source.whep is not None
    assert source.whep.url == "https://example.org:8443/cam/whep?x=1"
    assert credentials is not None
    assert (credentials.token, credentials.username) == ("to/ken", "")


@pytest.mark.parametrize(
    "text",
    [
        "ftp://x/y",
        "rtsp://",
        "rtsp://a:secret@/x",
        "rtsp://a:sec#secret@cam/x",
        "rtsp://cam/x#transport=secret",
        "rtsp://cam/x#fingerprint=ab",
        "testpattern://?colour=red",
        "",
    ],
)
def test_sources_that_are_none(text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_source(text)
    assert "secret" not in str(caught.value)


BAD_STARTS = [
    (["--standalone"], "--source"),
    (["--standalone", "--source", "test", "--port", "99999"], "--port: "),
    (["--standalone", "--source", "test", "--host", "example.org"], "--host: 'example.org' does not appear"),
    (["--standalone", "--source", "test", "--profile", "sd=ftp://x"], "--profile: not a known kind of address"),
    (["--standalone", "--source", "rtsp://u:12/3@host/cam"], "--source: not a valid address; a / or ? in a password"),
    (["--standalone", "--source", "test", "--profile", "sd"], "--profile is NAME=SOURCE"),
    (["--config", "/nowhere"], "/nowhere/agent.json cannot be read"),
]


@pytest.mark.parametrize(("arguments", "words"), BAD_STARTS)
def test_wrong_starts_end_with_a_sentence(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    assert words in capsys.readouterr().err


def test_a_port_that_is_taken_ends_with_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert run(["--standalone", "--source", "test", "--port", port, "--udp-port", "0"]) == 2
    assert f"127.0.0.1:{port}" in capsys.readouterr().err
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as media:
        media.bind(("127.0.0.1", 0))
        port = str(media.getsockname()[1])
        assert run(["--standalone", "--source", "test", "--port", "0", "--udp-port", port]) == 2
    assert f"UDP 127.0.0.1:{port}" in capsys.readouterr().err


def test_a_broken_configuration_ends_with_the_field(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = '{"camera": {"namespace": "a", "name": "b", "uid": "c"}, "source": {"rtsp": {"url": "rtsp://u:secret@c/"}}}'
    assert run(mount(tmp_path, wrong)) == 2
    said = capsys.readouterr().err
    assert "source.rtsp" in said
    assert "secret" not in said
