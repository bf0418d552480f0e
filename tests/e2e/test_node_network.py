"""The network modes on a real node: viewers in real Chromium dial the node, a node port, or a TURN server.

Pods of the local node can be reached from this machine, so what proves a mode is the pair of addresses that the browser
uses.
"""

import asyncio
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.async_api import Page

from tests.helpers.browser import Player, new_page
from tests.helpers.coturn import coturn
from tests.helpers.demo import Demo

pytestmark = [pytest.mark.node, pytest.mark.timeout(600)]

FPS = 30
KEEP_PEERS = """
    window.peers = [];
    window.RTCPeerConnection = class extends RTCPeerConnection {
        constructor(...given) { super(...given); window.peers.push(this); }
    };
"""
PAIR_IN_USE = """async () => {
    const report = await window.peers.at(-1).getStats();
    const stats = new Map([...report].map(([id, entry]) => [id, entry]));
    for (const entry of stats.values()) {
        if (entry.type !== 'transport') continue;
        const pair = stats.get(entry.selectedCandidatePairId);
        const [local, remote] = [stats.get(pair.localCandidateId), stats.get(pair.remoteCandidateId)];
        return {local: local.candidateType, address: remote.address, port: remote.port};
    }
}"""


def class_manifest(name: str, network: dict[str, Any]) -> dict[str, Any]:
    """A CameraClass for one mode."""
    return {
        "apiVersion": "sightline.dev/v1alpha1",
        "kind": "CameraClass",
        "metadata": {"name": name},
        "spec": {"network": network, "agent": {"pullPolicy": "IfNotPresent"}},
    }


def camera_manifest(name: str, class_name: str) -> dict[str, Any]:
    """A test pattern that everybody who signed in may watch."""
    access = {"grants": [{"subjects": ["authenticated"], "roles": ["View"]}]}
    return {
        "apiVersion": "sightline.dev/v1alpha1",
        "kind": "Camera",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"className": class_name, "source": {"testPattern": {"fps": FPS}}, "access": access},
    }


@pytest.fixture
def made(demo: Demo) -> Iterator[list[tuple[str, str]]]:
    """What a test made is taken away, cameras first."""
    objects: list[tuple[str, str]] = []
    yield objects
    for kind, name in reversed(objects):
        demo.kubectl("delete", kind, name, "--ignore-not-found", "--wait=true")


class Stage:
    """kubectl for one test."""

    def __init__(self, demo: Demo, made: list[tuple[str, str]]) -> None:
        self.demo = demo
        self._made = made

    def make_class(self, name: str, **network: Any) -> None:
        self.demo.kubectl.apply(class_manifest(name, network))
        self._made.append(("cameraclass", name))

    async def make_camera(self, name: str, class_name: str) -> dict[str, Any]:
        """A camera that can be watched; its `status.network`."""
        self.demo.kubectl.apply(camera_manifest(name, class_name))
        self._made.append(("camera", name))
        await asyncio.to_thread(self.demo.kubectl.wait, "camera", name, "condition=NetworkReady")
        network: dict[str, Any] = self.demo.kubectl.get("camera", name)["status"]["network"]
        return network

    async def make_camera_that_waits(self, name: str, class_name: str, reason: str) -> str:
        """A camera that cannot be reached, for that reason; what `NetworkReady` says of it."""
        self.demo.kubectl.apply(camera_manifest(name, class_name))
        self._made.append(("camera", name))
        deadline = time.monotonic() + 90
        while True:
            status = self.demo.kubectl.get("camera", name).get("status", {})
            found = {item["type"]: item for item in status.get("conditions", [])}.get("NetworkReady", {})
            if found.get("reason") == reason:
                assert (found["status"], status.get("network", {}).get("external", [])) == ("False", [])
                return str(found["message"])
            assert time.monotonic() < deadline, status
            await asyncio.sleep(0.3)

    async def pair_of(self, page: Page, camera: str) -> dict[str, Any]:
        """Watch until it plays at its full rate; the addresses in use."""
        await page.add_init_script(KEEP_PEERS)
        player = Player(page)
        await player.open(self.demo.url, self.demo.token, f"default/{camera}")
        await player.wait_for("playing")
        await player.wait_for_frames(3 * FPS - 12, 3.0)
        pair: dict[str, Any] = await page.evaluate(PAIR_IN_USE)
        return pair


@contextmanager
def dropped(port: int) -> Iterator[None]:
    """The node takes no UDP to that port."""
    rule = ["PREROUTING", "-p", "udp", "--dport", str(port), "-j", "DROP"]
    subprocess.run(["iptables", "-w", "-t", "raw", "-I", *rule], check=True)
    try:
        yield
    finally:
        subprocess.run(["iptables", "-w", "-t", "raw", "-D", *rule], check=True)


@pytest.fixture
def stage(demo: Demo, made: list[tuple[str, str]]) -> Stage:
    return Stage(demo, made)


async def test_host_port_plays_and_rests_after_its_agent(stage: Stage) -> None:
    """Viewers dial the node; a port that was given up is not handed out again, and who finds none is told so."""
    stage.make_class("host-port", mode="HostPort", portRange={"first": 21000, "last": 21001})
    network = await stage.make_camera("by-host", "host-port")
    [external] = network["external"]
    assert (network["mode"], external["ip"], external["port"]) == ("HostPort", stage.demo.host, 21000)
    async with new_page() as page:
        pair = await stage.pair_of(page, "by-host")
    assert (pair["address"], pair["port"]) == (stage.demo.host, 21000)

    stage.demo.kubectl("delete", "camera", "by-host", "--wait=true")
    network = await stage.make_camera("by-host-2", "host-port")
    assert network["portLease"]["port"] == 21001
    said = await stage.make_camera_that_waits("by-host-3", "host-port", "PortsExhausted")
    assert "21000 to 21001" in said


async def test_a_firewall_in_the_way_is_told_and_its_end_too(stage: Stage) -> None:
    with dropped(21050):
        stage.make_class("walled", mode="HostPort", portRange={"first": 21050, "last": 21050})
        said = await stage.make_camera_that_waits("walled", "walled", "ProbeFailed")
        assert f"{stage.demo.host}:21050" in said
    await asyncio.to_thread(stage.demo.kubectl.wait, "camera", "walled", "condition=NetworkReady")
    async with new_page() as page:
        pair = await stage.pair_of(page, "walled")
    assert (pair["address"], pair["port"]) == (stage.demo.host, 21050)


async def test_node_port_plays(stage: Stage) -> None:
    stage.make_class("node-port", mode="NodePort", portRange={"first": 30500, "last": 30510})
    network = await stage.make_camera("by-node", "node-port")
    [external] = network["external"]
    assert external["ip"] == stage.demo.host
    [service] = stage.demo.kubectl.list("services", "sightline.dev/camera=by-node,sightline.dev/agent")
    assert service["spec"]["ports"][0]["nodePort"] == external["port"]
    async with new_page() as page:
        pair = await stage.pair_of(page, "by-node")
    assert (pair["address"], pair["port"]) == (stage.demo.host, external["port"])


async def test_host_network_plays(stage: Stage) -> None:
    stage.make_class("host-network", mode="HostNetwork", portRange={"first": 21100, "last": 21110})
    network = await stage.make_camera("by-host-network", "host-network")
    assert network["portLease"]["port"] == 21100
    async with new_page() as page:
        pair = await stage.pair_of(page, "by-host-network")
    assert (pair["address"], pair["port"]) == (stage.demo.host, 21100)


async def test_relay_plays(stage: Stage) -> None:
    """Only the TURN server is dialled, with credentials that the front door made for this viewer."""
    demo, secret = stage.demo, "what-both-know"
    demo.kubectl.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "coturn", "namespace": demo.namespace},
            "stringData": {"secret": secret},
        }
    )
    await asyncio.to_thread(demo.helm_set, "api.turnSecrets={coturn}")
    async with coturn(demo.host, 3478, secret, (22000, 22100)) as server, new_page() as page:
        stage.make_class("relay", mode="Relay", turn={"urls": [server.url], "secretRef": "coturn"})
        network = await stage.make_camera("by-relay", "relay")
        assert "external" not in network or network["external"] == []
        pair = await stage.pair_of(page, "by-relay")
        assert pair["local"] == "relay"
        assert pair["address"] == network["internal"][0]["ip"]
        assert secret not in demo.logs("by-relay")
