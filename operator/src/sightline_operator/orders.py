"""Links to agents where several operators agree on one that works: it listens to them at all times, and gives orders
only while it is sure to be the one.

`leader.Fenced` does the same for the cluster. An operator whose machine stood still goes on in the middle of a pass: it
would hang up viewers, or tell a config, by what was true before another one took over.
"""

import asyncio
from collections.abc import Awaitable

from sightline_model.agent import AgentConfig
from sightline_model.reasons import EndReason
from sightline_operator.agents import AgentLinks, AgentTarget, Credentials, Listener
from sightline_operator.errors import AgentCallError
from sightline_operator.facts import LinkState
from sightline_operator.leader import Fence


class FencedLinks:
    """`grace` is how much longer an order under way may last: until nobody may have taken the Lease yet."""

    def __init__(self, links: AgentLinks, fence: Fence, grace: float) -> None:
        self._links = links
        self._fence = fence
        self._grace = grace

    def subscribe(self, listener: Listener) -> None:
        """As the links'."""
        self._links.subscribe(listener)

    def follow(self, target: AgentTarget, *, hurry: bool = False) -> None:
        """As the links'."""
        self._links.follow(target, hurry=hurry)

    def drop(self, namespace: str, pod: str) -> None:
        """As the links'."""
        self._links.drop(namespace, pod)

    def state(self, namespace: str, pod: str) -> LinkState:
        """As the links'."""
        return self._links.state(namespace, pod)

    def connected(self) -> tuple[int, int]:
        """As the links'."""
        return self._links.connected()

    async def put_config(
        self, namespace: str, pod: str, config: AgentConfig, credentials: Credentials | None = None
    ) -> None:
        """As the links', while leading."""
        left = self._left()
        await self._in_time(self._links.put_config(namespace, pod, config, credentials), left)

    async def end_session(self, namespace: str, pod: str, session: str, reason: EndReason) -> None:
        """As the links', while leading."""
        left = self._left()
        await self._in_time(self._links.end_session(namespace, pod, session, reason), left)

    async def run(self) -> None:
        """As the links'."""
        await self._links.run()

    def _left(self) -> float:
        left = self._fence.seconds_left()
        if left <= 0:
            raise AgentCallError("this operator does not hold the lease, so it gives agents no orders")
        return left

    async def _in_time(self, order: Awaitable[None], left: float) -> None:
        try:
            async with asyncio.timeout(left + self._grace):
                await order
        except TimeoutError as error:
            raise AgentCallError("an order was given up because the lease may have run out") from error
