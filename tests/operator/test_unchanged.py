"""Objects of the cache share their parts, so whoever changed one would change others: nobody does."""

from sightline_kube.cache import slim
from sightline_kube.kinds import CAMERA_CLASS
from sightline_model.reasons import EndReason, SourceReason
from sightline_model.session import SessionPhase
from sightline_operator.core import KINDS
from tests.operator.virtualtime import run
from tests.operator.world import world


def test_nobody_changes_what_the_cache_holds() -> None:
    async def main() -> None:
        async with world() as here:
            for name in ("gate", "dock", "roof"):
                await here.start_camera(name)
            await here.add_session("s-1")
            for agent in here.links.agents.values():
                agent.set_source(SourceReason.STREAMING, bitrate=4_000_000)
                agent.set_session("s-1", SessionPhase.STREAMING)
            await here.cluster.merge_patch(CAMERA_CLASS, None, "default", {"spec": {"agent": {"image": "agent:new"}}})
            await here.settled(90)
            for agent in here.links.agents.values():
                agent.set_session("s-1", SessionPhase.ENDED, EndReason.HANGUP)
            await here.settled(30)
            for kind in KINDS:
                there = {obj["metadata"]["uid"]: slim(obj) for obj in (await here.cluster.list(kind)).items}
                assert {obj["metadata"]["uid"]: obj for obj in here.cache.list(kind)} == there

    run(main)
