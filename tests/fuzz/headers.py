"""Targets that read single values at depth: a camera's RTSP header fields, and the addresses that people type."""

from random import Random
from urllib.parse import urlsplit

from sightline_agent.sources.address import AddressError, parse_address
from sightline_agent.sources.base import SourceError
from sightline_agent.sources.credentials import Credentials
from sightline_agent.sources.rtsp import auth, messages
from sightline_agent.sources.rtsp.target import MAX_REDIRECTIONS, Target, redirected
from tests.fuzz import runner

_PASSWORD = "hunter2hunter2"
_HOME = "rtsps://192.0.2.1:322/cam"
_LOGIN = Credentials("viewer", _PASSWORD)
_SECRET = "s3cr3t"


class RtspFields:
    """Header fields, one on each line; whatever a camera says, what we answer is one line of ours, and the password
    goes to the host that it was given for and to no other."""

    def feed(self, data: bytes, random: Random) -> None:
        target = Target(_HOME, _LOGIN, "ab" * 32)
        for line in data.decode("utf-8", "replace").split("\n")[:64]:
            name, _, value = line.partition(":")
            match name.strip().lower():
                case "location":
                    target = self._redirect(target, value.strip())
                case "transport":
                    self._transport(value)
                case "session":
                    self._session(value)
                case "public":
                    assert all(method == method.strip().upper() for method in messages.methods(value))
                case "www-authenticate":
                    self._challenge(value.strip())
                case "content-base":
                    joined = messages.clean_url(messages.join(_HOME, value.strip()))
                    assert joined is None or _one_line(joined)

    def _redirect(self, target: Target, location: str) -> Target:
        try:
            moved = redirected(target, location)
        except SourceError as error:
            assert _PASSWORD not in str(error)
            return target
        parts = urlsplit(moved.url)
        assert parts.scheme == "rtsps"
        assert parts.hostname
        assert parts.port != 0
        assert "@" not in parts.netloc
        assert moved.redirections <= MAX_REDIRECTIONS
        same = parts.hostname.rstrip(".") == (urlsplit(target.url).hostname or "").rstrip(".")
        assert same or (moved.credentials is None and moved.fingerprint is None)
        assert _one_line(moved.url)
        messages.request("DESCRIBE", moved.url, 1)
        return moved

    def _transport(self, value: str) -> None:
        found = messages.transport(value)
        if found is not None and found.numbers is not None:
            assert 0 <= min(found.numbers) <= max(found.numbers) <= (0xFF if found.interleaved else 0xFFFF)

    def _session(self, value: str) -> None:
        session = messages.session(value)
        assert session.id.isprintable()
        assert 2 <= session.timeout <= 3600

    def _challenge(self, value: str) -> None:
        challenge = auth.choose([value])
        if challenge is None:
            return
        given = auth.Authorizer(challenge, _LOGIN, lambda: "c" * 16).field_for("DESCRIBE", _HOME)
        assert _one_line(given)
        assert _PASSWORD not in given

    def check(self) -> None: ...

    def close(self) -> None: ...


class Address:
    """What is typed behind `--source` and `--camera`: read, or refused without repeating what may be a password."""

    def feed(self, data: bytes, random: Random) -> None:
        text = data.decode("utf-8", random.choice(("replace", "surrogateescape")))
        try:
            source, credentials = parse_address(text)
        except AddressError as error:
            assert _SECRET not in str(error)
            return
        assert source.kind
        assert _SECRET not in repr(credentials)
        described = next(iter(source.to_wire().values()))
        url = described.get("url", "")
        assert "@" not in urlsplit(url).netloc

    def check(self) -> None: ...

    def close(self) -> None: ...


def _one_line(text: str) -> bool:
    return "\r" not in text and "\n" not in text


_FIELD_TOKENS = (
    b"Location: rtsps://",
    b"Location: rtsp://192.0.2.1/cam",
    b"192.0.2.1:322",
    b"192.0.2.1.",
    b"viewer:hunter2@",
    b"[::1]",
    b"Transport: RTP/AVP/TCP;unicast;interleaved=",
    b"Transport: RTP/AVP;unicast;client_port=5000-5001;server_port=",
    b"multicast",
    b"Public: OPTIONS, GET_PARAMETER",
    b"Session: 1;timeout=",
    b"WWW-Authenticate: Digest realm=",
    b'nonce="',
    b"algorithm=SHA-256-sess",
    b'qop="auth-int,auth"',
    b"stale=true",
    b"\\",
    b"\t",
    b"\x0b",
)
_ADDRESS_TOKENS = (
    b"rtsp://",
    b"whep://",
    b"https://",
    b"file://",
    b"testpattern://?",
    b"/whep",
    b".m3u8",
    b"s3cr3t@",
    b"u:s3cr3t@",
    b"/dev/",
    b"[",
    b"]",
    b"%",
    b"?",
    b"#",
    b"..",
    b"#transport=",
    b"&fingerprint=",
)

TARGETS = (
    runner.Target("rtsp-fields", RtspFields, _FIELD_TOKENS, 16_000),
    runner.Target("address", Address, _ADDRESS_TOKENS, 4000),
)
