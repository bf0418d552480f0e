"""A small RTSP camera inside the test's own loop, with every bad habit a test may ask for.

Interleaved and over UDP. It counts connections and keeps the requests and the RTCP that it got. Its pictures are not
decodable (the slices are noise behind valid parameter sets), unless `access_units` gives real ones.
"""

import asyncio
import base64
import contextlib
import hashlib
import re
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field

# x264, constrained baseline, 640x360.
SPS = bytes.fromhex("6742c01edb0280bfe5c05a808080a0000003002000000651e2c5d4")
PPS = bytes.fromhex("68ce3c80")
_NONCE = "a" * 32
_SESSION = "12345678"
_SSRC = b"\x11\x22\x33\x44"
_SOUND_SSRC = b"\x55\x66\x77\x88"
_CLOCK = 90_000
_BEGIN, _SOUND_BEGIN = 1000, 70_000


@dataclass(frozen=True)
class Sound:
    """What this camera sends beside the pictures: a packet with each frame."""

    sdp: tuple[str, ...]
    payload_type: int
    payload: Callable[[int], bytes]
    """By the number of the frame."""
    ticks: int
    """From one to the next."""
    status: str = "200 OK"
    """Of the answer to its SETUP; empty: it hangs up instead."""
    refuses_to_play: bool = False
    """Once it was set up."""
    reports: bool = False
    """With sender reports, in which the sound is as old as a picture that was sent five frames before."""


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
    transports: tuple[str, ...] = ("TCP", "UDP")
    """What SETUP accepts; others get 461."""
    mute_transports: tuple[str, ...] = ()
    """Accepted, but nothing is sent."""
    location: str = ""
    """Sent with the answers that `status` makes redirections."""
    lower_case: bool = False
    """Names of header fields."""
    early: bool = False
    """The first frame comes before the answer to PLAY."""
    bye_after: int | None = None
    """Frames; then RTCP BYE and nothing more."""
    nonce_uses: int | None = None
    """Requests that a nonce serves; then it is stale."""
    terse: bool = False
    """No challenge for who has tried a password already."""
    lose: Callable[[int], bool] = lambda number: False
    """Packets (by their running number) that get lost on the way."""
    shuffle: bool = False
    """Each packet changes places with its neighbour."""
    clock: Callable[[int], int] = lambda number: number
    """The number of a frame in the order in which frames are shown, by its number in the order of sending."""
    sdp_sets: tuple[bytes, ...] = ()
    """Instead of those of the stream."""
    sound: Sound | None = None
    """None: there is some, of a kind that nobody carries."""


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
        self.reports: list[bytes] = []
        """RTCP that came."""
        self.punched = 0
        """UDP packets to our RTP ports."""
        self.scheme, self.host, self.port = "rtsp", "127.0.0.1", 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """The stream, without credentials."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}/cam"

    async def vanish(self) -> None:
        """The camera loses its power: connections end, and nobody listens at its port any more."""
        if self._listener is not None:
            self._listener.close()
        await self.close()

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
        client = _Client(self, reader, writer)
        try:
            writer.write(self.habits.greeting)
            while await client.serve():
                pass
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self.open -= 1
            client.close()
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


class _Client:
    """One connection."""

    def __init__(self, camera: RtspServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._camera = camera
        self._habits = camera.habits
        self._reader = reader
        self._writer = writer
        self._pictures: asyncio.Task[None] | None = None
        self._transport = ""
        self._sockets: list[socket.socket] = []
        self._ports: tuple[int, int] = (0, 0)
        self._sound_ports: tuple[int, int] | None = None
        self._sound_wanted = False
        self._nonce, self._uses = 0, 0
        self._sent = 0
        self._sequence = camera.habits.first_sequence

    def close(self) -> None:
        if self._pictures is not None:
            self._pictures.cancel()
        for one in self._sockets:
            asyncio.get_running_loop().remove_reader(one)
            one.close()

    async def serve(self) -> bool:
        """Answer one request; False after the last."""
        first_byte = await self._reader.readexactly(1)
        if first_byte == b"$":
            head = await self._reader.readexactly(3)
            self._camera.reports.append(await self._reader.readexactly(int.from_bytes(head[1:], "big")))
            return True
        text = (first_byte + await self._reader.readuntil(b"\r\n\r\n")).decode()
        first, *rest = text.strip().split("\r\n")
        method, url, _ = first.split(" ")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
        request = Request(method, url, fields)
        self._camera.requests.append(request)
        habits = self._habits
        if method in habits.mute:
            return True
        status, lines, body = "200 OK", [f"CSeq: {fields['cseq']}"], b""
        if method in habits.status:
            status = habits.status[method]
            if habits.location:
                lines.append(f"Location: {habits.location}")
        elif habits.username and method != "OPTIONS" and not self._authorized(request):
            status = "401 Unauthorized"
            if not (habits.terse and "authorization" in fields):
                lines += [f"WWW-Authenticate: {challenge}" for challenge in self._challenges()]
        elif method == "PLAY" and self._sound_wanted and habits.sound is not None and habits.sound.refuses_to_play:
            status = "455 Method Not Valid in This State"
        elif method == "OPTIONS":
            lines.append(f"Public: {habits.public}")
        elif method == "DESCRIBE":
            body = self._sdp()
            base = habits.content_base if habits.content_base is not None else f"{url}/"
            lines += ["Content-Type: application/sdp", f"Content-Length: {len(body)}"]
            lines += [f"Content-Base: {base}"] if base else []
        elif method == "SETUP":
            sounds = habits.sound if url.endswith("trackID=0") else None
            if sounds is not None and not sounds.status:
                return False
            status, setup = self._set_up(fields["transport"], sounds is not None)
            if sounds is not None:
                status, self._sound_wanted = sounds.status, True
            lines += setup
        if habits.lower_case:
            lines = [f"{name.lower()}:{value}" for name, _, value in (line.partition(":") for line in lines)]
        plays = method == "PLAY" and status.startswith("200")
        answer = "\r\n".join([f"RTSP/1.0 {status}", *lines, "", ""]).encode() + body
        if plays and habits.early:
            self._frame(0)
        self._writer.write(answer)
        await self._writer.drain()
        if plays and not habits.silent and self._transport not in habits.mute_transports:
            self._pictures = asyncio.create_task(self._play(1 if habits.early else 0))
        return method != "TEARDOWN"

    def _set_up(self, wanted: str, sound: bool = False) -> tuple[str, list[str]]:
        self._transport = "TCP" if wanted.startswith("RTP/AVP/TCP") else "UDP"
        if self._transport not in self._habits.transports:
            return "461 Unsupported Transport", []
        session = f"Session: {_SESSION};timeout={self._habits.session_timeout}"
        if self._transport == "TCP":
            channels = "2-3" if sound else "0-1"
            return "200 OK", [f"Transport: RTP/AVP/TCP;unicast;interleaved={channels};ssrc=11223344", session]
        match = re.search(r"client_port=(\d+)-(\d+)", wanted)
        assert match is not None
        if sound:
            self._sound_ports = (int(match[1]), int(match[2]))
            ours = "-".join(str(one.getsockname()[1]) for one in self._sockets)  # one pair of ours serves both tracks
            return "200 OK", [f"Transport: RTP/AVP;unicast;client_port={match[1]}-{match[2]};server_port={ours}"]
        self._ports = (int(match[1]), int(match[2]))
        host = self._camera.host
        for index in range(2):
            one = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
            one.bind((host, 0))
            one.setblocking(False)
            self._sockets.append(one)
            asyncio.get_running_loop().add_reader(one, self._datagram, index)
        ours = "-".join(str(one.getsockname()[1]) for one in self._sockets)
        return "200 OK", [f"Transport: RTP/AVP;unicast;client_port={match[1]}-{match[2]};server_port={ours}", session]

    def _datagram(self, index: int) -> None:
        data = self._sockets[index].recv(2048)
        if index == 0:
            self._camera.punched += 1
        else:
            self._camera.reports.append(data)

    def _send_sound(self, number: int, sound: Sound) -> None:
        """A packet, and a second after the start the sender reports of both tracks."""
        timestamp = (_SOUND_BEGIN + number * sound.ticks) % (1 << 32)
        header = bytes([0x80, sound.payload_type]) + number.to_bytes(2, "big") + timestamp.to_bytes(4, "big")
        self._send([header + _SOUND_SSRC + sound.payload(number)], 2)
        if sound.reports and number == 0:
            of_pictures = _sender_report(_SSRC, _BEGIN - 5 * _CLOCK // self._habits.fps)
            self._send([of_pictures], 1)
            self._send([_sender_report(_SOUND_SSRC, timestamp)], 3)

    def _send(self, packets: Sequence[bytes], index: int = 0) -> None:
        """`index`: 0 and 1 are RTP and RTCP of the pictures, 2 and 3 of the sound."""
        if self._transport == "TCP":
            self._writer.write(
                b"".join(b"$" + bytes([index]) + len(packet).to_bytes(2, "big") + packet for packet in packets)
            )
            return
        ports = (*self._ports, *(self._sound_ports or ()))
        for packet in packets:
            with contextlib.suppress(OSError):
                self._sockets[index % 2].sendto(packet, (self._camera.host, ports[index]))

    async def _play(self, number: int) -> None:
        habits = self._habits
        loop = asyncio.get_running_loop()
        begin = loop.time() - number / habits.fps
        with contextlib.suppress(ConnectionError):
            while not self._writer.is_closing():
                if number == habits.bye_after:
                    self._send([bytes.fromhex("81cb0001") + _SSRC], 1)
                    return
                if number == habits.stall_after:
                    return
                if number == habits.drop_after:
                    self._writer.close()
                    return
                self._frame(number)
                await self._writer.drain()
                number += 1
                await asyncio.sleep(max(begin + number / habits.fps - loop.time(), 0))

    def _frame(self, number: int) -> None:
        habits = self._habits
        payloads = _packets(self._unit(number), habits.mtu)
        timestamp = (_BEGIN + habits.clock(number) * _CLOCK // habits.fps) % (1 << 32)
        packets = []
        for index, payload in enumerate(payloads):
            marker = 0x80 if index == len(payloads) - 1 else 0
            header = bytes([0x80, marker | 96]) + self._sequence.to_bytes(2, "big")
            if not habits.lose(self._sent):
                packets.append(header + timestamp.to_bytes(4, "big") + _SSRC + payload)
            self._sequence = (self._sequence + 1) % (1 << 16)
            self._sent += 1
        if habits.shuffle:
            places = [min(index ^ 1, len(packets) - 1) for index in range(len(packets) & ~1)]
            packets = [packets[place] for place in places] + packets[len(places) :]
        self._send(packets)
        if self._sound_wanted and habits.sound is not None:
            self._send_sound(number, habits.sound)

    def _unit(self, number: int) -> list[bytes]:
        habits = self._habits
        if habits.access_units:
            return list(habits.access_units[number % len(habits.access_units)])
        noise = hashlib.sha256(str(number).encode()).digest()
        if number % habits.gop:
            return [b"\x41" + noise * 20]
        sets = [SPS, PPS] if habits.sets_in_band else []
        return [*sets, b"\x65" + noise * 200]

    def _sdp(self) -> bytes:
        habits = self._habits
        lines = ["v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=test", "t=0 0", "a=control:*"]
        lines += habits.sound.sdp if habits.sound is not None else ["m=audio 0 RTP/AVP 3"]
        lines += ["a=control:trackID=0", "m=video 0 RTP/AVP 96", f"a=rtpmap:96 {habits.codec}/90000"]
        if habits.codec == "H264":
            given = habits.sdp_sets or (SPS, PPS)
            sets = ",".join(base64.b64encode(nal).decode() for nal in given) if habits.sets_in_sdp else ""
            sprop = f";sprop-parameter-sets={sets}" if sets else ""
            lines.append(f"a=fmtp:96 packetization-mode=1;profile-level-id=42c01e{sprop}")
        lines.append(f"a=control:{habits.control}")
        return ("\r\n".join(lines) + "\r\n").encode()

    def _challenges(self) -> list[str]:
        stale = ""
        if self._habits.nonce_uses is not None and self._uses >= self._habits.nonce_uses:
            self._nonce, self._uses = self._nonce + 1, 0
            stale = ", stale=true"
        nonce = f'nonce="{self._nonce_text()}"{stale}'
        basic, digest = 'Basic realm="test"', f'Digest realm="test", {nonce}'
        sha = f'{digest}, qop="auth", algorithm=SHA-256'
        match self._habits.scheme:
            case "Basic":
                return [basic]
            case "Digest":
                return [digest]
            case "Digest-qop":
                return [f'{digest}, qop="auth,auth-int", opaque="xyz"']
            case "several":
                return [basic, digest, sha]
            case "several in one":
                return [f"{basic}, {digest}, {sha}"]
            case _:
                return [sha]

    def _nonce_text(self) -> str:
        return f"{self._nonce:08x}" + _NONCE

    def _authorized(self, request: Request) -> bool:
        given = request.headers.get("authorization", "")
        habits = self._habits
        if habits.scheme == "Basic":
            pair = f"{habits.username}:{habits.password}".encode()
            return given == "Basic " + base64.b64encode(pair).decode()
        self._uses += 1
        if habits.nonce_uses is not None and self._uses > habits.nonce_uses:
            return False
        fields = {name: quoted or plain for name, quoted, plain in re.findall(r'(\w+)=(?:"([^"]*)"|([^,\s]+))', given)}
        sha = habits.scheme in ("Digest-SHA-256", "several", "several in one")

        def digest(text: str) -> str:
            return (hashlib.sha256 if sha else hashlib.md5)(text.encode()).hexdigest()

        secret = digest(f"{habits.username}:test:{habits.password}")
        action = digest(f"{request.method}:{request.url}")
        middle = self._nonce_text()
        if habits.scheme != "Digest":
            middle = f"{middle}:{fields.get('nc')}:{fields.get('cnonce')}:auth"
        return fields.get("response") == digest(f"{secret}:{middle}:{action}")


@contextlib.asynccontextmanager
async def serve(
    habits: Habits | None = None, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None, port: int = 0
) -> AsyncIterator[RtspServer]:
    """A camera for the length of a `with`; rtsps with `tls`. With `port` it comes back where it was."""
    camera = RtspServer(habits or Habits())
    camera.host = host
    camera.scheme = "rtsps" if tls is not None else "rtsp"
    camera._listener = await asyncio.start_server(camera._accept, camera.host, port, ssl=tls)
    camera.port = camera._listener.sockets[0].getsockname()[1]
    try:
        yield camera
    finally:
        await camera.vanish()


def _sender_report(ssrc: bytes, timestamp: int) -> bytes:
    """Of one moment, the same for all tracks."""
    moment = (3_900_000_000 << 32).to_bytes(8, "big")
    return b"\x80\xc8\x00\x06" + ssrc + moment + (timestamp % (1 << 32)).to_bytes(4, "big") + bytes(8)


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
