"""Two operator processes and one Lease on a real API server: who dies is followed, and nothing is done twice."""

import asyncio
import signal
import time
from datetime import datetime
from pathlib import Path

from sightline_kube.kinds import LEASE
from sightline_model import names
from tests.helpers.apiserver import NEEDS_APISERVER, Apiserver
from tests.helpers.operator_process import end, page, start_operator, until
from tests.integration.test_operator import stage

pytestmark = NEEDS_APISERVER


async def leads(port: int) -> bool:
    _, text = await page(port, "/metrics")
    values = [line.split()[-1] for line in text.splitlines() if line.startswith("leader_election_master_status{")]
    return values == ["1.0"]


def short_lease() -> dict[str, str]:
    """A Lease of one's own that is soon over, but not because the machine stands still for a moment."""
    lease = f"operator-{names.random_suffix(6)}"
    return {
        "SIGHTLINE_LEASE_NAME": lease,
        "SIGHTLINE_LEASE_NAMESPACE": "default",
        "SIGHTLINE_LEASE_SECONDS": "12",
    }


def tell(what: str, began: float) -> None:
    """A figure for people (`pytest -s`); what is asserted is the order of events."""
    print(f"after {what}: {time.monotonic() - began:.1f} s until the next operator made a pod")  # noqa: T201


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


async def test_the_one_that_waits_takes_over(apiserver: Apiserver, tmp_path: Path) -> None:
    lease = f"operator-{names.random_suffix(6)}"
    more = {"SIGHTLINE_LEASE_NAME": lease, "SIGHTLINE_LEASE_NAMESPACE": "default"}
    async with stage(apiserver, tmp_path, **more) as here:
        await until(lambda: leads(here.port))
        second, second_port = await start_operator(apiserver, tmp_path, **more)
        third = None
        try:
            assert await leads(here.port)
            assert not await leads(second_port)
            await here.add_camera("gate")
            await here.run_pod("gate")
            await here.ready("gate")
            (pod,) = await here.pods("gate")

            # Killed: the other one waits until the Lease has run out.
            here.process.kill()
            began = time.monotonic()
            await here.process.wait()
            last = (await here.cluster.get(LEASE, "default", lease))["spec"]
            await here.add_camera("yard")
            await here.until_pods(1, "yard")
            tell("SIGKILL", began)
            taken = (await here.cluster.get(LEASE, "default", lease))["spec"]
            assert await leads(second_port)
            assert taken["holderIdentity"] != last["holderIdentity"]
            assert taken["leaseTransitions"] == last["leaseTransitions"] + 1
            assert (moment(taken["acquireTime"]) - moment(last["renewTime"])).total_seconds() > 14
            (made,) = await here.pods("yard")
            taken_at = moment(taken["acquireTime"]).replace(microsecond=0)
            assert moment(made["metadata"]["creationTimestamp"]) >= taken_at
            assert [item["metadata"]["uid"] for item in await here.pods("gate")] == [pod["metadata"]["uid"]]

            # Asked to end: the Lease is given back, and the next one begins at once.
            third, third_port = await start_operator(apiserver, tmp_path, **more)
            began = time.monotonic()
            second.terminate()
            async with asyncio.timeout(30):  # what Kubernetes grants
                assert await second.wait() == 0
            await here.add_camera("lane")
            await here.until_pods(1, "lane")
            tell("SIGTERM", began)
            assert await leads(third_port)
            assert len(await here.pods("gate")) == len(await here.pods("lane")) == 1
        finally:
            for process in (second, third):
                if process is not None:
                    await end(process)


async def test_a_leader_that_was_stopped_writes_nothing_when_it_goes_on(apiserver: Apiserver, tmp_path: Path) -> None:
    more = short_lease()
    async with stage(apiserver, tmp_path, **more) as here:
        await until(lambda: leads(here.port))
        second, second_port = await start_operator(apiserver, tmp_path, **more)
        try:
            here.process.send_signal(signal.SIGSTOP)
            await here.add_camera("gate")
            await here.until_pods(1)
            assert await leads(second_port)
            here.process.send_signal(signal.SIGCONT)
            async with asyncio.timeout(60):
                assert await here.process.wait() == 1
            assert await leads(second_port)
            assert len(await here.pods("gate")) == 1
        finally:
            await end(second)


async def test_a_leader_without_its_lease_ends(apiserver: Apiserver, tmp_path: Path) -> None:
    more = short_lease()
    async with stage(apiserver, tmp_path, **more) as here:
        await until(lambda: leads(here.port))
        stolen = {"spec": {"holderIdentity": "somebody-else"}}
        await here.cluster.merge_patch(LEASE, "default", more["SIGHTLINE_LEASE_NAME"], stolen)
        async with asyncio.timeout(60):
            assert await here.process.wait() == 1
