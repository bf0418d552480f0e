"""Viewers who come in the middle of a group of pictures: an unmodified aiortc client over loopback."""

import time
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest

from sightline_agent.media.frames import Chunk
from tests.helpers.peer_stage import (
    GOP,
    RATE,
    Client,
    Observer,
    Stage,
    connect,
    encode_clip,
    open_client,
    open_stage,
)


@pytest.fixture(scope="module")
def clip() -> list[Chunk]:
    return encode_clip(GOP)


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with open_stage() as opened:
        yield opened


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with open_client() as opened:
        yield opened


async def test_a_late_viewer_gets_the_whole_group(stage: Stage, client: Client, clip: list[Chunk]) -> None:
    """No key frame comes any more, and the burst suffers losses."""
    observer = Observer()
    peer = stage.peer(observer)
    seen = 0

    def every_fifth(data: bytes) -> bool:
        # What is repeated arrives: the client asks again only when it misses more, and nothing more comes.
        nonlocal seen
        first_time = data[8:12] == peer._ssrc.to_bytes(4, "big")
        seen += first_time
        return first_time and seen % 5 == 4

    for chunk in clip[: GOP - 3]:
        stage.fanout.send(chunk)
    stage.sockets.lose = every_fifth
    await connect(client, stage, peer)
    frames = await client.frames(GOP - 5)
    for chunk in clip[GOP - 3 : GOP]:
        stage.fanout.send(chunk)
    frames += await client.frames(3)
    assert frames[0].key_frame
    assert {b - a for a, b in pairwise(frame.pts or 0 for frame in frames)} == {90000 // RATE}
    assert observer.heard[:2] == ["connected", "media"]
    totals = stage.fanout.totals()
    assert (totals.bursts, totals.resent > 0, totals.dropped) == (1, True, 0)


async def test_who_cannot_decode_gets_the_group_again(stage: Stage, client: Client, clip: list[Chunk]) -> None:
    peer = stage.peer(Observer())
    for chunk in clip[: GOP // 2]:
        stage.fanout.send(chunk)
    await connect(client, stage, peer)
    first = (await client.frames(1))[0]
    stage.fanout._clock = lambda: time.monotonic() + 60  # long after the burst
    await client.connection.getReceivers()[0]._send_rtcp_pli(peer._ssrc)
    frames = await client.frames(GOP // 2)
    again = next(frame for frame in frames if frame.key_frame)
    assert again.pts is not None
    assert first.pts is not None
    assert again.pts - first.pts == GOP // 2 * 90000 // RATE
    assert stage.fanout.totals().bursts == 2
