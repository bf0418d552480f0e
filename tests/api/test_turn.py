"""What viewers need to reach an agent: credentials for TURN servers, and an agent whose address is proved."""

import base64
import hmac
from pathlib import Path
from typing import Any

import pytest

from sightline_api.turn import LIFE_SECONDS, TurnSecrets
from tests.api.world import OFFER, SDP, START, STRANGER, VIEWER, WHEP, World, camera, condition, running_world


async def watch(world: World) -> Any:
    return await world.call("POST", WHEP, VIEWER, content=OFFER, headers=SDP)


async def test_a_class_may_send_viewers_through_a_relay(tmp_path: Path) -> None:
    (tmp_path / "coturn").mkdir()
    (tmp_path / "coturn" / "secret").write_text("shared\n")
    network = {
        "mode": "Relay",
        "iceServers": [{"urls": ["stun:stun.test"]}],
        "turn": {"urls": ["turn:turn.test"], "secretRef": "coturn"},
    }
    async with running_world(turn_directory=tmp_path) as world:
        await world.add_running(network=network)
        asked = "/v1/webrtc/config?namespace=default&camera=front"
        config = (await world.call("GET", asked)).json()
        assert config["iceTransportPolicy"] == "relay"
        stun, turn = config["iceServers"]
        assert stun == {"urls": ["stun:stun.test"]}
        end, _, user = turn["username"].partition(":")
        assert int(end) == START.timestamp() + LIFE_SECONDS
        assert "viewer" not in user
        digest = hmac.digest(b"shared", turn["username"].encode(), "sha1")
        assert base64.b64decode(turn["credential"]) == digest
        [_, line] = (await watch(world)).headers.get_list("Link")
        assert line.startswith('<turn:turn.test>; rel="ice-server"; username="')
        assert (await world.call("GET", asked, STRANGER)).status_code == 403
        assert (await world.call("GET", "/v1/webrtc/config?camera=front")).status_code == 400
        assert (await world.call("GET", "/v1/webrtc/config")).json() == {
            "iceServers": [],
            "iceTransportPolicy": "all",
        }


@pytest.mark.parametrize("name", ["absent", "../coturn", "", ".."])
def test_a_turn_secret_that_is_not_there_gives_no_credentials(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_text("not for you")
    (tmp_path / "turn").mkdir()
    assert TurnSecrets(tmp_path / "turn").read(name) == b""
    assert TurnSecrets(None).read("coturn") == b""


@pytest.mark.parametrize("reason", ["Probing", "ProbeFailed", "TurnSecretMissing"])
async def test_an_agent_that_nobody_can_reach_is_not_asked(world: World, reason: str) -> None:
    """Its answer would name addresses that lead nowhere."""
    conditions = [
        condition("Accepted", "True", "Accepted"),
        condition("NetworkReady", "False", reason, "Check the firewall."),
    ]
    await world.add_running(camera(lifecycle={"startTimeout": "100ms"}), conditions=conditions)
    answered = await watch(world)
    assert answered.status_code == 503
    assert (answered.json()["code"], answered.json()["detail"]) == ("camera-not-ready", "Check the firewall.")
    assert not world.agent.calls
