"""A synthetic camera as a process: an Annex-B clip in a loop at 30 frames per second, by RTSP or as plain RTP.

    python -m tests.bench.camera --clip FILE --log FILE (--rtsp PORT | --udp PORT)

For each frame it writes to the log when the frame left (CLOCK_MONOTONIC, ns) and how many bytes it had: records of two
64-bit integers. It says `ready` on standard output.
"""

import argparse
import asyncio
import base64
import contextlib
import os
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

RECORD = struct.Struct("=qq")
RATE = 30
MTU = 1200
_CLOCK = 90_000
_PAYLOAD_TYPE = 96
_SLICE, _IDR, _SEI, _SPS, _PPS, _DELIMITER = 1, 5, 6, 7, 8, 9
_FU_A = 28
_BACKLOG = 8 << 20
"""A reader that is this far behind gets no more until it has caught up."""


@dataclass(frozen=True)
class Frame:
    """One access unit, packetised."""

    payloads: tuple[bytes, ...]
    size: int


def nal_units(stream: bytes) -> Iterator[bytes]:
    """The units of an Annex-B stream."""
    start = stream.find(b"\0\0\1")
    while start >= 0:
        begin = start + 3
        start = stream.find(b"\0\0\1", begin)
        unit = stream[begin : start if start >= 0 else len(stream)]
        yield unit.rstrip(b"\0") if start >= 0 else unit


def access_units(stream: bytes) -> list[list[bytes]]:
    """Units by picture; each picture of the clip is one slice."""
    pictures: list[list[bytes]] = [[]]
    for unit in nal_units(stream):
        if any(other[0] & 31 in (_SLICE, _IDR) for other in pictures[-1]):
            pictures.append([])
        if unit[0] & 31 not in (_SEI, _DELIMITER):
            pictures[-1].append(unit)
    return pictures


def payloads(units: Sequence[bytes]) -> Iterator[bytes]:
    """RTP payloads of a picture (RFC 6184: single units and FU-A)."""
    for unit in units:
        if len(unit) <= MTU:
            yield unit
            continue
        step = MTU - 2
        for begin in range(1, len(unit), step):
            piece = unit[begin : begin + step]
            first, last = begin == 1, begin + step >= len(unit)
            yield bytes([unit[0] & 0xE0 | _FU_A, unit[0] & 31 | first << 7 | last << 6]) + piece


@dataclass
class Camera:
    """What is sent, and to whom."""

    frames: list[Frame]
    parameter_sets: tuple[bytes, bytes]
    readers: set[asyncio.StreamWriter] = field(default_factory=set)

    @classmethod
    def load(cls, path: Path) -> "Camera":
        """Read and packetise the clip."""
        pictures = access_units(path.read_bytes())
        sps = next(unit for unit in pictures[0] if unit[0] & 31 == _SPS)
        pps = next(unit for unit in pictures[0] if unit[0] & 31 == _PPS)
        frames = [Frame(tuple(payloads(units)), sum(map(len, units))) for units in pictures]
        return cls(frames, (sps, pps))

    def description(self) -> bytes:
        """The SDP."""
        sps, pps = self.parameter_sets
        sets = ",".join(base64.b64encode(part).decode() for part in (sps, pps))
        parameters = f"packetization-mode=1;profile-level-id={sps[1:4].hex()};sprop-parameter-sets={sets}"
        lines = [
            *("v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=camera", "t=0 0", "a=control:*"),
            *(f"m=video 0 RTP/AVP {_PAYLOAD_TYPE}", "c=IN IP4 127.0.0.1", f"a=rtpmap:{_PAYLOAD_TYPE} H264/{_CLOCK}"),
            f"a=fmtp:{_PAYLOAD_TYPE} {parameters}",
            "a=control:track1",
        ]
        return "".join(f"{line}\r\n" for line in lines).encode()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One RTSP connection."""
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while await self._answer(reader, writer):
                    pass
        finally:
            self.readers.discard(writer)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        first = await reader.readexactly(1)
        if first == b"$":  # the reader's RTCP
            _channel, size = struct.unpack("!BH", await reader.readexactly(3))
            await reader.readexactly(size)
            return True
        lines = (first + await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        method, url, _version = lines[0].split(" ", 2)
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:] if line)
        }
        await reader.readexactly(int(headers.get("content-length", "0")))
        status, body, more = "200 OK", b"", ["Session: 12345678;timeout=60"]
        if method == "OPTIONS":
            more = ["Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN, GET_PARAMETER"]
        elif method == "DESCRIBE":
            body = self.description()
            more = ["Content-Type: application/sdp", f"Content-Base: {url}/", f"Content-Length: {len(body)}"]
        elif method == "SETUP":
            if "TCP" in headers.get("transport", ""):
                more.append("Transport: RTP/AVP/TCP;unicast;interleaved=0-1")
            else:
                status = "461 Unsupported Transport"
        head = [f"RTSP/1.0 {status}", f"CSeq: {headers.get('cseq', '0')}", *more, "", ""]
        writer.write("\r\n".join(head).encode() + body)
        if method == "PLAY":
            self.readers.add(writer)
        return method != "TEARDOWN"

    async def run(self, log: int, push: tuple[str, int] | None) -> None:
        """Send frames until ended."""
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
        sequence, started, number = 1000, time.monotonic(), 0
        while True:
            wait = started + number / RATE - time.monotonic()
            if wait > 0:
                await asyncio.sleep(wait)
            frame = self.frames[number % len(self.frames)]
            packets, sequence = _packets(frame, sequence, number * _CLOCK // RATE)
            interleaved = b"".join(struct.pack("!BBH", 0x24, 0, len(packet)) + packet for packet in packets)
            os.write(log, RECORD.pack(time.monotonic_ns(), frame.size))
            if push:
                for packet in packets:
                    sender.sendto(packet, push)
            for writer in list(self.readers):
                if writer.transport.get_write_buffer_size() < _BACKLOG:
                    writer.write(interleaved)
            number += 1


def _packets(frame: Frame, sequence: int, timestamp: int) -> tuple[list[bytes], int]:
    packets = []
    for index, payload in enumerate(frame.payloads):
        marker = 0x80 if index == len(frame.payloads) - 1 else 0
        head = struct.pack("!BBHII", 0x80, _PAYLOAD_TYPE | marker, sequence, timestamp & 0xFFFFFFFF, 0x11223344)
        packets.append(head + payload)
        sequence = sequence + 1 & 0xFFFF
    return packets, sequence


async def _main(options: argparse.Namespace) -> None:
    camera = Camera.load(options.clip)
    if options.rtsp:
        await asyncio.start_server(camera.serve, "127.0.0.1", options.rtsp)
    log = os.open(options.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
    print("ready", flush=True)
    await camera.run(log, ("127.0.0.1", options.udp) if options.udp else None)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--clip", type=Path, required=True)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--rtsp", type=int, default=0)
    parser.add_argument("--udp", type=int, default=0)
    asyncio.run(_main(parser.parse_args()))
