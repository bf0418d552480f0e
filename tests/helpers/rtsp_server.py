"""A small RTSP camera inside the test's own loop, with every bad habit a test may ask for.

TCP interleaved only. It counts connections and keeps the requests it got. Its pictures are not decodable (the slices
are noise behind valid parameter sets), unless `access_units` gives real ones.
"""

import asyncio
import base64
import contextlib
import hashlib
import re
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

# x264, constrained baseline, 640x360.
SPS = bytes.fromhex("6742c01edb0280bfe5c05a808080a0000003002000000651e2c5d4")
PPS = bytes.fromhex("68ce3c80")
_NONCE = "a" * 32
_SESSION = "12345678"
_CLOCK = 90_000


@dataclass(frozen=True)
class Habits:
    """How this camera behaves."""

    username: str = ""
    password: str = ""
    scheme: str = "Digest"
    """Basic, Digest (MD5, RFC 2069), Digest-qop (MD5, qop=auth) or Digest-SHA-256."""
    status: Mapping[str, str] = field(default_factory=dict)
    """Method to the status line's rest, such as {"DESCRIBE": "404 Not Found"}."""
    mute: frozenset[str] = frozenset()
    """Methods that are never answered."""
    silent: bool = False
    """Accepts PLAY, sends nothing."""
    codec: str = "H264"
    sets_in_sdp: bool = True
    sets_in_band: bool = True
    greeting: bytes = b""
    """Sent to who connects, before anything else."""
    stall_after: int | None = None
    """Frames; then nothing."""
    drop_after: int | None = None
    """Frames; then it hangs up."""
    public: str = "OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN, GET_PARAMETER"
    session_timeout: int = 60
    content_base: str | None = None
    """None: the requested URL with a slash."""
    control: str = "trackID=1"
    fps: int = 25
    gop: int = 25
    access_units: tuple[tuple[bytes, ...], ...] = ()
    """NAL units of each frame, played in a circle."""
    first_sequence: int = 65_500
    mtu: int = 1400


@dataclass(frozen=True)
class Request:
    """What a client asked."""

    method: str
    url: str
    headers: Mapping[str, str]


class RtspServer:
    """Use `serve`."""

    def __init__(self, habits: Habits) -> None:
        self.habits = habits
        self.connections = 0
        self.open = 0
        self.requests: list[Request] = []
        self.scheme, self.host, self.port = "rtsp", "127.0.0.1", 0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """The stream, without credentials."""
        return f"{self.scheme}://{self.host}:{self.port}/cam"

    def methods(self) -> list[str]:
        """What was asked, in order."""
        return [request.method for request in self.requests]

    async def close(self) -> None:
        """Hang up on everybody."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self.connections += 1
        self.open += 1
        pictures: list[asyncio.Task[None]] = []
        try:
            writer.write(self.habits.greeting)
            while await self._serve(reader, writer, pictures):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self.open -= 1
            for one in pictures:
                one.cancel()
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pictures: list[asyncio.Task[None]]
    ) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *rest = head.strip().split("\r\n")
        method, url, _ = first.split(" ")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
        request = Request(method, url, fields)
        self.requests.append(request)
        habits = self.habits
        if method in habits.mute:
            return True
        status, lines, body = "200 OK", [f"CSeq: {fields['cseq']}"], b""
        if method in habits.status:
            status = habits.status[method]
        elif habits.username and method != "OPTIONS" and not self._authorized(request):
            status = "401 Unauthorized"
            lines.append(f"WWW-Authenticate: {self._challenge()}")
        elif method == "OPTIONS":
            lines.append(f"Public: {habits.public}")
        elif method == "DESCRIBE":
            body = self._sdp()
            base = habits.content_base if habits.content_base is not None else f"{url}/"
            lines += ["Content-Type: application/sdp", f"Content-Base: {base}", f"Content-Length: {len(body)}"]
        elif method == "SETUP":
            lines.append("Transport: RTP/AVP/TCP;unicast;interleaved=0-1;ssrc=11223344")
            lines.append(f"Session: {_SESSION};timeout={habits.session_timeout}")
        answer = "\r\n".join([f"RTSP/1.0 {status}", *lines, "", ""]).encode() + body
        writer.write(answer)
        await writer.drain()
        if method == "PLAY" and status.startswith("200") and not habits.silent:
            pictures.append(asyncio.create_task(self._pictures(writer)))
        return method != "TEARDOWN"

    async def _pictures(self, writer: asyncio.StreamWriter) -> None:
        habits = self.habits
        loop = asyncio.get_running_loop()
        sequence, begin = habits.first_sequence, loop.time()
        number = 0
        with contextlib.suppress(ConnectionError):
            while not writer.is_closing():
                if number == habits.stall_after:
                    return
                if number == habits.drop_after:
                    writer.close()
                    return
                packets = _packets(self._unit(number), habits.mtu)
                blob = b""
                for index, payload in enumerate(packets):
                    marker = 0x80 if index == len(packets) - 1 else 0
                    timestamp = (1000 + number * _CLOCK // habits.fps) % (1 << 32)
                    header = bytes([0x80, marker | 96]) + sequence.to_bytes(2, "big")
                    packet = header + timestamp.to_bytes(4, "big") + b"\x11\x22\x33\x44" + payload
                    blob += b"$\0" + len(packet).to_bytes(2, "big") + packet
                    sequence = (sequence + 1) % (1 << 16)
                writer.write(blob)
                await writer.drain()
                number += 1
                await asyncio.sleep(max(begin + number / habits.fps - loop.time(), 0))

    def _unit(self, number: int) -> list[bytes]:
        habits = self.habits
        if habits.access_units:
            return list(habits.access_units[number % len(habits.access_units)])
        noise = hashlib.sha256(str(number).encode()).digest()
        if number % habits.gop:
            return [b"\x41" + noise * 20]
        sets = [SPS, PPS] if habits.sets_in_band else []
        return [*sets, b"\x65" + noise * 200]

    def _sdp(self) -> bytes:
        habits = self.habits
        lines = ["v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=test", "t=0 0", "a=control:*", "m=audio 0 RTP/AVP 0"]
        lines += ["a=control:trackID=0", "m=video 0 RTP/AVP 96", f"a=rtpmap:96 {habits.codec}/90000"]
        if habits.codec == "H264":
            sets = ",".join(base64.b64encode(nal).decode() for nal in (SPS, PPS)) if habits.sets_in_sdp else ""
            sprop = f";sprop-parameter-sets={sets}" if sets else ""
            lines.append(f"a=fmtp:96 packetization-mode=1;profile-level-id=42c01e{sprop}")
        lines.append(f"a=control:{habits.control}")
        return ("\r\n".join(lines) + "\r\n").encode()

    def _challenge(self) -> str:
        match self.habits.scheme:
            case "Basic":
                return 'Basic realm="test"'
            case "Digest":
                return f'Digest realm="test", nonce="{_NONCE}"'
            case "Digest-qop":
                return f'Digest realm="test", nonce="{_NONCE}", qop="auth,auth-int", opaque="xyz"'
            case _:
                return f'Digest realm="test", nonce="{_NONCE}", qop="auth", algorithm=SHA-256'

    def _authorized(self, request: Request) -> bool:
        given = request.headers.get("authorization", "")
        habits = self.habits
        if habits.scheme == "Basic":
            pair = f"{habits.username}:{habits.password}".encode()
            return given == "Basic " + base64.b64encode(pair).decode()
        fields = {name: quoted or plain for name, quoted, plain in re.findall(r'(\w+)=(?:"([^"]*)"|([^,\s]+))', given)}
        sha = habits.scheme == "Digest-SHA-256"

        def digest(text: str) -> str:
            return (hashlib.sha256 if sha else hashlib.md5)(text.encode()).hexdigest()

        secret = digest(f"{habits.username}:test:{habits.password}")
        action = digest(f"{request.method}:{request.url}")
        middle = _NONCE
        if habits.scheme != "Digest":
            middle = f"{_NONCE}:{fields.get('nc')}:{fields.get('cnonce')}:auth"
        return fields.get("response") == digest(f"{secret}:{middle}:{action}")


@contextlib.asynccontextmanager
async def serve(
    habits: Habits | None = None, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncIterator[RtspServer]:
    """A camera for the length of a `with`; rtsps with `tls`."""
    camera = RtspServer(habits or Habits())
    camera.host = host
    camera.scheme = "rtsps" if tls is not None else "rtsp"
    server = await asyncio.start_server(camera._accept, camera.host, 0, ssl=tls)
    camera.port = server.sockets[0].getsockname()[1]
    try:
        yield camera
    finally:
        server.close()
        await camera.close()


def _packets(nals: list[bytes], mtu: int) -> list[bytes]:
    packets = []
    for nal in nals:
        if len(nal) <= mtu:
            packets.append(nal)
            continue
        indicator, kind = (nal[0] & 0xE0) | 28, nal[0] & 0x1F
        for position in range(1, len(nal), mtu - 2):
            part = nal[position : position + mtu - 2]
            bits = (0x80 if position == 1 else 0) | (0x40 if position + len(part) == len(nal) else 0)
            packets.append(bytes([indicator, bits | kind]) + part)
    return packets
