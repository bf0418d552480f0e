"""The main job on a real Kubernetes node: a foreign RTSP camera, described as a Camera, watched in real Chromium.

Everything here goes the way of a user: kubectl for the platform team, the page for viewers, the front door's address
and a Kubernetes token for both. The local node is the one that `make demo CLUSTER=local` makes.
"""

import asyncio
import time
from typing import Any

import aiohttp
import pytest

from tests.helpers.browser import Player, new_page
from tests.helpers.demo import Demo
from tests.helpers.kubectl import KubectlError
from tests.helpers.rtsp_camera import rtsp_camera

pytestmark = [pytest.mark.node, pytest.mark.timeout(600)]

IDLE_SECONDS = 30.0
FPS = 30
KILLS = 3
OPEN = ("Requested", "Connecting", "Streaming")


def camera_manifest(name: str, source: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """A Camera that everybody who signed in may watch."""
    access = {"grants": [{"subjects": ["authenticated"], "roles": ["View"]}]}
    return {
        "apiVersion": "sightline.dev/v1alpha1",
        "kind": "Camera",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"source": source, "access": access, **spec},
    }


def condition(camera: dict[str, Any], type_: str) -> dict[str, Any]:
    """One condition of an object."""
    return next(found for found in camera["status"]["conditions"] if found["type"] == type_)


async def until(demo: Demo, kind: str, name: str, check: Any, seconds: float = 90.0) -> dict[str, Any]:
    """Read an object until `check` is content with it."""
    deadline = time.monotonic() + seconds
    while True:
        found = await asyncio.to_thread(demo.kubectl.get, kind, name)
        if check(found):
            return found
        assert time.monotonic() < deadline, found.get("status")
        await asyncio.sleep(0.3)


def has_ended(session: dict[str, Any]) -> bool:
    """Whether a session is over; for `until`."""
    return bool(session["status"]["phase"] == "Ended")


def sessions_of(demo: Demo, camera: str, *phases: str) -> list[str]:
    """Names of the camera's sessions that are so far."""
    return [
        session["metadata"]["name"]
        for session in demo.kubectl.list("streamsessions")
        if session["spec"]["cameraRef"]["name"] == camera and session["status"]["phase"] in phases
    ]


def pods_of(demo: Demo, camera: str) -> list[str]:
    """Names of the camera's pods."""
    return [pod["metadata"]["name"] for pod in demo.kubectl.list("pods", f"sightline.dev/camera={camera}")]


async def until_streaming(demo: Demo, camera: str, count: int) -> None:
    """Wait until so many sessions of the camera stream, and no other is open."""
    async with asyncio.timeout(90):
        while len(await asyncio.to_thread(sessions_of, demo, camera, *OPEN)) != count:
            await asyncio.sleep(0.3)
        while len(await asyncio.to_thread(sessions_of, demo, camera, "Streaming")) != count:
            await asyncio.sleep(0.3)


async def test_a_foreign_camera_plays_is_shared_and_stops(demo: Demo) -> None:
    """Full frame rate through front door and pod; one connection for two viewers; stops 30 s after the last."""
    async with rtsp_camera(demo.host) as camera, new_page() as first:
        demo.kubectl.apply(camera_manifest("dock", {"rtsp": {"url": camera.url}}))
        await asyncio.to_thread(demo.kubectl.wait, "camera", "dock", "condition=Ready")
        await camera.wait_connected(0)  # the probe is over
        probes = camera.opened

        player = Player(first)
        await player.open(demo.url, demo.token, "default/dock")
        await player.wait_for("playing")
        await player.wait_for_frames(5 * FPS - 8, 5.0)
        picture = await player.picture()
        assert (picture.width, picture.height) == (1280, 720)

        async with new_page() as second:
            other = Player(second)
            await other.open(demo.url, demo.token, "default/dock")
            await other.wait_for("playing")
            assert camera.connected == 1
            assert camera.opened == probes + 1
            seen = await until(demo, "camera", "dock", lambda found: found["status"].get("viewers") == 2)
            assert seen["status"]["source"]["videoCodec"] == "H264"
            table = demo.kubectl("get", "cameras", "dock").split("\n")
            assert table[0].split() == ["NAME", "READY", "PHASE", "CODEC", "VIEWERS", "AGE"]
            assert table[1].split()[:5] == ["dock", "True", "Streaming", "H264", "2"]
            await until_streaming(demo, "dock", 2)
            await other.leave()

        left = time.monotonic()
        await player.leave()
        await camera.wait_connected(0, seconds=120)
        assert camera.last_closed - left >= IDLE_SECONDS
        assert camera.opened == probes + 1
    demo.kubectl("delete", "camera", "dock", "--wait=true")


async def test_a_return_within_the_grace_finds_the_source_running(demo: Demo) -> None:
    async with rtsp_camera(demo.host) as camera:
        demo.kubectl.apply(camera_manifest("return", {"rtsp": {"url": camera.url}}))
        await asyncio.to_thread(demo.kubectl.wait, "camera", "return", "condition=Ready")
        await camera.wait_connected(0)
        before = camera.opened
        async with new_page() as first, new_page() as second:  # a browser takes its time to start
            for page in (first, second):
                player = Player(page)
                await player.open(demo.url, demo.token, "default/return")
                await player.wait_for("playing")
                await until_streaming(demo, "return", 1)
                await player.leave()
                await until_streaming(demo, "return", 0)
        assert camera.opened == before + 1
    demo.kubectl("delete", "camera", "return")


async def test_an_edit_of_the_address_is_followed(demo: Demo) -> None:
    async with rtsp_camera(demo.host) as old, rtsp_camera(demo.host, "--size", "640x360") as new, new_page() as page:
        demo.kubectl.apply(camera_manifest("moved", {"rtsp": {"url": old.url}}))
        await asyncio.to_thread(demo.kubectl.wait, "camera", "moved", "condition=Ready")
        player = Player(page)
        await player.open(demo.url, demo.token, "default/moved")
        await player.wait_for("playing")
        pod = demo.kubectl.get("camera", "moved")["status"]["agent"]["pod"]

        demo.kubectl.apply(camera_manifest("moved", {"rtsp": {"url": new.url}}))
        await new.wait_connected(1)
        await old.wait_connected(0)
        seen = await until(demo, "camera", "moved", lambda found: found["status"].get("source", {}).get("width") == 640)
        assert seen["status"]["agent"]["pod"] == pod
        await player.wait_for("playing")
        await player.wait_for_width(640)
    demo.kubectl("delete", "camera", "moved")


async def test_deleting_a_camera_takes_what_it_owned_and_nothing_else(demo: Demo) -> None:
    """Its sessions end, its pod, Secret and Service go; the neighbour's and the user's Secret stay."""
    demo.kubectl.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "short-lived", "namespace": "default"},
            "stringData": {"username": "u", "password": "p"},
        }
    )
    async with rtsp_camera(demo.host, "--user", "u", "--password", "p") as camera, new_page() as page:
        source = {"rtsp": {"url": camera.url, "credentialsRef": {"name": "short-lived"}}}
        demo.kubectl.apply(camera_manifest("short-lived", source))
        await asyncio.to_thread(demo.kubectl.wait, "camera", "short-lived", "condition=Ready")
        player = Player(page)
        await player.open(demo.url, demo.token, "default/short-lived")
        await player.wait_for("playing")
        selector = "sightline.dev/camera=short-lived"
        assert len(demo.kubectl.list("pods", selector)) == 1
        neighbours = len(demo.kubectl.list("pods", "sightline.dev/camera=test-pattern"))

        demo.kubectl("delete", "camera", "short-lived")
        deadline = time.monotonic() + 120
        while any(demo.kubectl.list(kind, selector) for kind in ("pods", "secrets", "services")):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.5)
        await until_streaming(demo, "short-lived", 0)
        assert len(demo.kubectl.list("pods", "sightline.dev/camera=test-pattern")) == neighbours
        assert demo.kubectl.get("secret", "short-lived")
    demo.kubectl("delete", "secret", "short-lived")


@pytest.mark.parametrize("part", ["operator", "api"])
async def test_killing_the_control_plane_does_not_disturb_the_picture(demo: Demo, part: str) -> None:
    async with new_page() as page:
        player = Player(page)
        await player.open(demo.url, demo.token, "default/test-pattern")
        await player.wait_for("playing")
        await player.remember_states()
        enough, seen = min(6 * FPS, await player.frames_during(6.0)) - 12, 0
        for _ in range(KILLS):  # where others use the cores, too, a later one shows it
            await asyncio.to_thread(demo.kill, part)
            seen = await player.frames_during(6.0)
            rollout = ("rollout", "status", f"deployment/sightline-{part}", "--timeout=120s")
            await asyncio.to_thread(demo.kubectl, "-n", demo.namespace, *rollout)
            if seen >= enough:
                break
        assert seen >= enough
        assert set(await player.states()) <= {"playing"}
        await until(demo, "camera", "test-pattern", lambda found: found["status"].get("viewers", 0) >= 1)


async def test_after_the_agent_is_killed_the_player_is_back_by_itself(demo: Demo) -> None:
    async with new_page() as page:
        player = Player(page)
        await player.open(demo.url, demo.token, "default/test-pattern")
        await player.wait_for("playing")
        await asyncio.to_thread(demo.kubectl.wait, "camera", "test-pattern", "condition=Ready")
        async with asyncio.timeout(90):  # the front door writes it down while the player connects
            while not (before := set(await asyncio.to_thread(sessions_of, demo, "test-pattern", *OPEN))):
                await asyncio.sleep(0.3)
        await player.remember_states()
        await asyncio.to_thread(demo.kill_agent, "test-pattern")
        await player.wait_for_return()
        await player.wait_for_frames(FPS + 1, 2.0)
        async with asyncio.timeout(90):  # they have ended, and may be gone by then
            while before & set(await asyncio.to_thread(sessions_of, demo, "test-pattern", *OPEN)):
                await asyncio.sleep(0.3)


async def test_an_agent_that_is_killed_again_and_again_is_back_soon_each_time(demo: Demo) -> None:
    """The kubelet's crash back-off, 10 s and more, is not waited for: who had served well gets another pod."""
    async with new_page() as page:
        player = Player(page)
        await player.open(demo.url, demo.token, "default/test-pattern")
        await player.wait_for("playing")
        first = demo.kubectl.get("camera", "test-pattern")["status"]["agent"]["pod"]
        for _ in range(3):
            await player.frames_during(4.0)
            await player.remember_states()
            await asyncio.to_thread(demo.kill_agent, "test-pattern")
            await player.wait_for_return()
        async with asyncio.timeout(90):  # the pods before it may still be on their way out
            while len(made := await asyncio.to_thread(pods_of, demo, "test-pattern")) != 1:
                await asyncio.sleep(0.3)
        assert made != [first]
        await until(
            demo,
            "camera",
            "test-pattern",
            lambda seen: condition(seen, "Ready")["status"] == "True" and [seen["status"]["agent"]["pod"]] == made,
        )


BAD: list[tuple[dict[str, Any], str]] = [
    (camera_manifest("two", {"rtsp": {"url": "rtsp://h/x"}, "testPattern": {}}), "exactly one"),
    (camera_manifest("unknown", {"testPattern": {"colour": "red"}}), 'unknown field "spec.source.testPattern.colour"'),
    (camera_manifest("x" * 70, {"testPattern": {}}), "52"),
    (camera_manifest("duration", {"testPattern": {}}, lifecycle={"idleTimeout": "soon"}), "idleTimeout"),
    (camera_manifest("secret", {"rtsp": {"url": "rtsp://u:hunter2@h/x"}}), "credentialsRef"),
]


@pytest.mark.parametrize(("manifest", "words"), BAD, ids=[manifest["metadata"]["name"][:12] for manifest, _ in BAD])
async def test_bad_input_is_refused_with_what_to_do(demo: Demo, manifest: dict[str, Any], words: str) -> None:
    with pytest.raises(KubectlError, match=words):
        demo.kubectl.apply(manifest)


async def failing_source(demo: Demo, kind: str) -> tuple[Any, dict[str, Any], str]:
    """A context with the camera, the source to describe, and the reason to expect."""
    if kind == "wrong-password":
        context = rtsp_camera(demo.host, "--user", "u", "--password", "right")
        return context, {"credentialsRef": {"name": "wrong"}}, "AuthenticationFailed"
    if kind == "h265":
        return rtsp_camera(demo.host, "--codec", "h265"), {}, "CodecUnsupported"  # with transcode: Never
    return None, {}, {"unreachable": "Unreachable", "no-frames": "NoFrames"}[kind]


@pytest.mark.parametrize("kind", ["wrong-password", "h265", "unreachable", "no-frames"])
async def test_a_camera_that_fails_says_why_everywhere(demo: Demo, kind: str) -> None:
    """The same reason in the condition, in the problem body and in the player, and the password in none of them."""
    demo.kubectl.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "wrong", "namespace": "default"},
            "stringData": {"username": "u", "password": "hunter2"},
        }
    )
    context, extra, reason = await failing_source(demo, kind)
    async with demo.source(context, kind) as url, new_page() as page:
        demo.kubectl.apply(camera_manifest(kind, {"rtsp": {"url": url, **extra}}, transcode="Never"))
        seen = await until(
            demo,
            "camera",
            kind,
            lambda found: any(
                c["type"] == "SourceReady" and c["reason"] == reason for c in found["status"]["conditions"]
            ),
        )
        assert condition(seen, "SourceReady")["status"] == "False"
        assert condition(seen, "Ready")["status"] == "False"

        headers = {"Authorization": f"Bearer {demo.token}", "Content-Type": "application/sdp"}
        async with (
            aiohttp.ClientSession() as session,
            session.post(
                f"{demo.url}/v1/namespaces/default/cameras/{kind}/whep", data=await offer(page), headers=headers
            ) as answer,
        ):
            problem = await answer.json(content_type="application/problem+json")
        assert problem["reason"] == reason
        assert problem["code"].startswith("source-")

        player = Player(page)
        await player.open(demo.url, demo.token, f"default/{kind}")
        await player.wait_for_failure(reason)
        told = [str(seen), str(problem), await player.text(), demo.logs(kind)]
        assert [text for text in told if "hunter2" in text] == []
    demo.kubectl("delete", "camera", kind)


async def offer(page: Any) -> str:
    """A real browser's offer to receive video."""
    script = """async () => {
        const peer = new RTCPeerConnection();
        peer.addTransceiver('video', {direction: 'recvonly'});
        const offer = await peer.createOffer();
        await peer.setLocalDescription(offer);
        return peer.localDescription.sdp;
    }"""
    return str(await page.evaluate(script))


@pytest.mark.parametrize(
    ("token", "status"), [("", 401), ("nonsense", 401), ("other-audience", 401), ("no-right", 403)]
)
async def test_who_may_not_is_told_so(demo: Demo, token: str, status: int) -> None:
    demo.kubectl.apply(
        {
            "apiVersion": "sightline.dev/v1alpha1",
            "kind": "Camera",
            "metadata": {"name": "private", "namespace": "default"},
            "spec": {"source": {"testPattern": {}}, "access": {"owner": "somebody"}},
        }
    )
    credential = {
        "other-audience": lambda: demo.service_account_token("default", audience="https://elsewhere.example"),
        "no-right": lambda: demo.service_account_token("default", audience="sightline"),
    }.get(token, lambda: token)()
    headers = {"Authorization": f"Bearer {credential}"} if credential else {}
    url = f"{demo.url}/v1/namespaces/default/cameras/private/whep"
    async with aiohttp.ClientSession() as session, asyncio.timeout(60):
        told = 404
        while told == 404:  # the front door has not heard of the camera yet
            sent = session.post(url, data="v=0", headers={**headers, "Content-Type": "application/sdp"})
            async with sent as answer:
                told, kind = answer.status, answer.headers["Content-Type"]
            await asyncio.sleep(0.2)
    assert told == status
    assert kind.startswith("application/problem+json")
    demo.kubectl("delete", "camera", "private")


async def test_what_people_read(demo: Demo) -> None:
    """explain, wait, describe and get are useful to a person."""
    assert "credentialsRef" in demo.kubectl("explain", "camera.spec.source.rtsp")
    assert "belong into credentialsRef" in " ".join(demo.kubectl("explain", "camera.spec.source.rtsp.url").split())
    demo.kubectl.wait("camera", "test-pattern", "condition=Ready")
    described = demo.kubectl("describe", "camera", "test-pattern")
    assert all(word in described for word in ("Accepted", "AgentReady", "NetworkReady", "SourceReady"))
