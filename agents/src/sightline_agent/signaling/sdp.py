"""SDP offers (RFC 8866, RFC 8829) from anybody: read what a sendonly answer needs, refuse the rest.

Pure. Any text at all gives an `Offer` or an `SdpError`; nothing else is raised. Only printable ASCII of bounded length
is kept from what is later echoed in an answer, so no offer can write lines into one. Answers: `answer.py`.
"""

import re
from dataclasses import dataclass, field

from sightline_agent.errors import ProblemError
from sightline_model.problems import Problem, ProblemCode

MAX_SDP_BYTES = 64 * 1024
MAX_MEDIA = 32
"""Sections per offer."""
MAX_FORMATS = 128
FINGERPRINT_BYTES = {"sha-256": 32, "sha-384": 48, "sha-512": 64}
"""Hash functions that DTLS checks a certificate by; others in an offer are ignored."""

_LINES = re.compile(r"\r\n|\n|\r")
_LINE = re.compile(r"([a-z])=(.*)", re.DOTALL)
_MEDIA = re.compile(r"([a-z]{1,32}) ([0-9]{1,5})(?:/[0-9]{1,5})? ([A-Za-z0-9/]{1,40}) (.+)")
_TOKEN = re.compile(r"[!-~]{1,64}")
_ICE = re.compile(r"[A-Za-z0-9+/]{4,256}")
_RTPMAP = re.compile(r"([0-9]{1,3}) ([!-.0-~]{1,40})/([0-9]{1,9})(?:/([0-9]{1,3}))?")
_DIRECTIONS = ("sendrecv", "sendonly", "recvonly", "inactive")
_SETUPS = ("actpass", "active", "passive")
_MAX_ATTRIBUTES = 64


class SdpError(ProblemError):
    """An offer that gets no answer; the problem says why."""

    def __init__(self, detail: str, code: ProblemCode = ProblemCode.INVALID_SDP) -> None:
        super().__init__(Problem(code=code, detail=detail))


@dataclass(slots=True)
class Codec:
    """One payload type of a section."""

    payload_type: int
    name: str = ""
    """Upper case."""
    clock_rate: int = 0
    channels: str = ""
    parameters: dict[str, str] = field(default_factory=dict)
    feedback: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Transport:
    """ICE and DTLS attributes; a section inherits the session's."""

    ufrag: str = ""
    password: str = field(default="", repr=False)
    setup: str = ""
    fingerprints: list[tuple[str, str]] = field(default_factory=list)


@dataclass(slots=True)
class Section:
    """One m= line with what follows it."""

    kind: str
    port: int
    protocol: str
    formats: list[str]
    transport: Transport
    direction: str
    mid: str | None = None
    rtcp_mux: bool = False
    rtcp_rsize: bool = False
    bundle_only: bool = False
    codecs: dict[int, Codec] = field(default_factory=dict)

    @property
    def enabled(self) -> bool:
        """False for a section that the peer has switched off (RFC 8829 section 5.2.2)."""
        return self.port != 0 or self.bundle_only


@dataclass(slots=True)
class Offer:
    """A whole offer."""

    sections: list[Section]
    bundle: list[str]
    """Mids of the first BUNDLE group."""
    ice_lite: bool


@dataclass(slots=True)
class _Session:
    transport: Transport = field(default_factory=Transport)
    direction: str = "sendrecv"
    bundle: list[str] = field(default_factory=list)
    ice_lite: bool = False


def parse_offer(text: str) -> Offer:
    """Read an offer; SdpError."""
    if len(text) > MAX_SDP_BYTES or len(text.encode(errors="replace")) > MAX_SDP_BYTES:
        raise SdpError(f"longer than {MAX_SDP_BYTES} bytes", ProblemCode.BODY_TOO_LARGE)
    lines = [line for line in _LINES.split(text) if line]
    if not lines or lines[0] != "v=0":
        raise SdpError("it does not begin with v=0")
    session = _Session()
    sections: list[Section] = []
    for line in lines[1:]:
        match = _LINE.fullmatch(line)
        if match is None:
            raise SdpError("a line is not of the form x=value")
        kind, value = match.groups()
        if kind == "m":
            if len(sections) == MAX_MEDIA:
                raise SdpError(f"more than {MAX_MEDIA} media sections")
            sections.append(_section(value, session))
        elif kind == "a":
            name, _, rest = value.partition(":")
            if sections:
                _section_attribute(sections[-1], name, rest)
            else:
                _session_attribute(session, name, rest)
    return Offer(sections, session.bundle, session.ice_lite)


def _section(value: str, session: _Session) -> Section:
    match = _MEDIA.fullmatch(value)
    if match is None:
        raise SdpError("a media line is not valid")
    kind, port, protocol, rest = match.groups()
    formats = rest.split()
    if not 0 < len(formats) <= MAX_FORMATS or not all(_TOKEN.fullmatch(token) for token in formats):
        raise SdpError("the formats of a media line are not valid")
    if int(port) > 65535:
        raise SdpError("a port is out of range")
    inherited = session.transport
    section = Section(
        kind=kind,
        port=int(port),
        protocol=protocol,
        formats=formats,
        transport=Transport(inherited.ufrag, inherited.password, inherited.setup, list(inherited.fingerprints)),
        direction=session.direction,
    )
    if kind in ("audio", "video"):
        for token in formats:
            payload_type = _payload_type(token)
            section.codecs[payload_type] = Codec(payload_type)
    return section


def _payload_type(token: str) -> int:
    if not (token.isascii() and token.isdigit() and len(token) <= 3 and int(token) <= 127):
        raise SdpError("a payload type is not a number up to 127")
    return int(token)


def _session_attribute(session: _Session, name: str, value: str) -> None:
    if name == "group":
        kind, *mids = value.split()[: MAX_MEDIA + 1] or [""]
        if kind == "BUNDLE" and not session.bundle:
            session.bundle = mids
    elif name == "ice-lite":
        session.ice_lite = True
    elif name in _DIRECTIONS:
        session.direction = name
    else:
        _transport_attribute(session.transport, name, value)


def _section_attribute(section: Section, name: str, value: str) -> None:
    match name:
        case "mid":
            if not _TOKEN.fullmatch(value):
                raise SdpError("a mid is not valid")
            section.mid = value
        case "rtcp-mux":
            section.rtcp_mux = True
        case "rtcp-rsize":
            section.rtcp_rsize = True
        case "bundle-only":
            section.bundle_only = True
        case "rtpmap":
            _rtpmap(section, value)
        case "fmtp":
            _fmtp(section, value)
        case "rtcp-fb":
            _feedback(section, value)
        case _ if name in _DIRECTIONS:
            section.direction = name
        case "fingerprint" | "setup" | "ice-ufrag" | "ice-pwd":
            _transport_attribute(section.transport, name, value)
        case _:
            pass  # an attribute that a sendonly answer does not depend on


def _transport_attribute(transport: Transport, name: str, value: str) -> None:
    if name == "ice-ufrag":
        transport.ufrag = _ice(value)
    elif name == "ice-pwd":
        transport.password = _ice(value)
    elif name == "setup":
        if value not in _SETUPS:
            raise SdpError("the setup attribute is not actpass, active or passive")
        transport.setup = value
    elif name == "fingerprint":
        algorithm, _, digest = value.strip().partition(" ")
        algorithm = algorithm.lower()
        length = FINGERPRINT_BYTES.get(algorithm)
        if length is None:
            return
        if not re.fullmatch(rf"(?:[0-9A-Fa-f]{{2}}:){{{length - 1}}}[0-9A-Fa-f]{{2}}", digest.strip()):
            raise SdpError("a fingerprint is not valid")
        if len(transport.fingerprints) >= _MAX_ATTRIBUTES:
            raise SdpError("too many fingerprints")
        transport.fingerprints.append((algorithm, digest.strip().upper()))


def _ice(value: str) -> str:
    if not _ICE.fullmatch(value):
        raise SdpError("ICE credentials are not valid")
    return value


def _codec(section: Section, token: str) -> Codec | None:
    return section.codecs.get(int(token)) if token.isascii() and token.isdigit() and len(token) <= 3 else None


def _rtpmap(section: Section, value: str) -> None:
    match = _RTPMAP.fullmatch(value)
    codec = _codec(section, match.group(1)) if match else None
    if match is None or codec is None:
        return
    codec.name, codec.clock_rate, codec.channels = match.group(2).upper(), int(match.group(3)), match.group(4) or ""


def _fmtp(section: Section, value: str) -> None:
    token, _, rest = value.partition(" ")
    codec = _codec(section, token)
    if codec is None:
        return
    for part in rest.split(";")[:_MAX_ATTRIBUTES]:
        key, _, parameter = part.strip().partition("=")
        codec.parameters[key.strip().lower()] = parameter.strip()


def _feedback(section: Section, value: str) -> None:
    which, _, rest = value.partition(" ")
    if which == "*":
        targets = list(section.codecs.values())
    else:
        codec = _codec(section, which)
        targets = [codec] if codec else []
    for target in targets:
        if len(target.feedback) < _MAX_ATTRIBUTES:
            target.feedback.add(rest.strip().lower())


@dataclass(frozen=True, slots=True)
class Fragment:
    """A trickle-ice-sdpfrag (RFC 8840), as far as an ICE-lite server cares: whose candidates they are."""

    ufrag: str
    """Empty when the fragment names none."""
    candidates: int
    password: str = field(default="", repr=False, compare=False)


def parse_fragment(text: str) -> Fragment:
    """Read a fragment; SdpError. Candidates are counted only: the peer comes to us."""
    if len(text) > MAX_SDP_BYTES:
        raise SdpError(f"longer than {MAX_SDP_BYTES} bytes", ProblemCode.BODY_TOO_LARGE)
    ufrag, password, candidates = "", "", 0
    for line in _LINES.split(text):
        if line and not _LINE.fullmatch(line):
            raise SdpError("a line is not of the form x=value", ProblemCode.INVALID_REQUEST)
        if line.startswith("a=ice-ufrag:"):
            ufrag = _ice(line.removeprefix("a=ice-ufrag:"))
        elif line.startswith("a=ice-pwd:") and _ICE.fullmatch(line.removeprefix("a=ice-pwd:")):
            password = line.removeprefix("a=ice-pwd:")
        elif line.startswith("a=candidate:"):
            candidates += 1
    return Fragment(ufrag, candidates, password)
