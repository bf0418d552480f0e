"""The bad network that end-to-end tests are run over does what it says: on virtual time, and once over real sockets."""

import asyncio
import re
import socket
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

from tests.helpers import virtual_time
from tests.helpers.lossy_relay import HOST, Path, lossy_relay

ANSWER = (
    "v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=ice-ufrag:abcd\r\n"
    "a=candidate:1 1 udp 2130706431 192.0.2.1 5004 typ host\r\n"
    "a=candidate:2 1 udp 2130706175 2001:db8::1 5004 typ host\r\n"
    "a=end-of-candidates\r\n"
)


def arrivals(
    prepare: Callable[[Path], None], send: Callable[[Path, Callable[[bytes], None]], Coroutine[Any, Any, None]]
) -> list[tuple[float, bytes]]:
    """When what arrived, in milliseconds."""
    found: list[tuple[float, bytes]] = []

    async def scenario() -> None:
        path = Path(Random(1))
        prepare(path)
        loop = asyncio.get_running_loop()
        began = loop.time()
        await send(path, lambda data: found.append((round((loop.time() - began) * 1000, 3), data)))
        await asyncio.sleep(10)
        path.close()

    virtual_time.run(scenario())
    return found


async def ten_at_once(path: Path, deliver: Callable[[bytes], None]) -> None:
    for number in range(10):
        path.send(bytes([number]) * 125, deliver)


def test_nothing_is_done_to_what_passes() -> None:
    assert [at for at, _ in arrivals(lambda path: None, ten_at_once)] == [0.0] * 10


def test_delay_keeps_the_order() -> None:
    def prepare(path: Path) -> None:
        path.delay = 0.04

    found = arrivals(prepare, ten_at_once)
    assert [(at, data[0]) for at, data in found] == [(40.0, number) for number in range(10)]


def test_bandwidth_spreads_and_a_full_queue_loses() -> None:
    def prepare(path: Path) -> None:
        path.bandwidth, path.queue = 100_000, 0.045

    assert [at for at, _ in arrivals(prepare, ten_at_once)] == [10.0, 20.0, 30.0, 40.0, 50.0]


def test_chance_is_repeatable() -> None:
    async def many(path: Path, deliver: Callable[[bytes], None]) -> None:
        for number in range(10_000):
            path.send(number.to_bytes(2, "big"), deliver)
        assert path.lost + path.passed == 10_000
        assert 400 < path.lost < 600

    def prepare(path: Path) -> None:
        path.loss = 0.05

    assert arrivals(prepare, many) == arrivals(prepare, many)


def test_what_is_cut_loses_everything() -> None:
    def prepare(path: Path) -> None:
        path.cut = True

    assert arrivals(prepare, ten_at_once) == []


async def test_datagrams_go_both_ways_and_viewers_keep_apart() -> None:
    loop = asyncio.get_running_loop()
    with (
        socket.socket(type=socket.SOCK_DGRAM) as agent,
        socket.socket(type=socket.SOCK_DGRAM) as first,
        socket.socket(type=socket.SOCK_DGRAM) as second,
    ):
        for sock in (agent, first, second):
            sock.setblocking(False)
            sock.bind((HOST, 0))
        async with lossy_relay(agent.getsockname()[1]) as relay:
            for viewer, word in ((first, b"one"), (second, b"two"), (first, b"three")):
                await loop.sock_sendto(viewer, word, (HOST, relay.port))
                data, seen_at = await loop.sock_recvfrom(agent, 100)
                assert data == word
                await loop.sock_sendto(agent, word.upper(), seen_at)
                assert await loop.sock_recvfrom(viewer, 100) == (word.upper(), (HOST, relay.port))
            assert len(relay._behind) == 2
            relay.cut()
            await loop.sock_sendto(first, b"lost", (HOST, relay.port))
            while relay.up.lost == 0:
                await asyncio.sleep(0)
            diverted = relay.divert(ANSWER)
        assert re.findall(r"a=candidate:.*", diverted.replace("\r", "")) == [
            f"a=candidate:1 1 udp 2130706431 {HOST} {relay.port} typ host"
        ]
        assert diverted.endswith("a=end-of-candidates\r\n")
