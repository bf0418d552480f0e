"""Which addresses an answer names: those that the operator tells, and the agent's own unless they lead nowhere."""

import re

import pytest

from tests.helpers.peer_stage import Observer, open_client, open_stage


@pytest.mark.parametrize(
    ("advertised", "own", "expected"),
    [
        ([], True, ["127.0.0.1"]),
        (["192.0.2.10", "198.51.100.1"], True, ["192.0.2.10", "198.51.100.1", "127.0.0.1"]),
        (["192.0.2.10"], False, ["192.0.2.10"]),
        ([], False, []),
    ],
)
async def test_addresses_of_an_answer(advertised: list[str], own: bool, expected: list[str]) -> None:
    async with open_stage() as stage, open_client() as client:
        stage.factory.advertise = lambda: advertised
        stage.factory.names_own = lambda: own
        connection = client.connection
        await connection.setLocalDescription(await connection.createOffer())
        answer = stage.peer(Observer()).answer(connection.localDescription.sdp)
        named = re.findall(r"a=candidate:\d+ 1 udp \d+ (\S+) (\d+) typ host", answer)
        assert named == [(address, str(stage.mux.port)) for address in expected]
