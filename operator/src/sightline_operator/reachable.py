"""NetworkReady: can viewers dial the agent? The verdict, what of it becomes status, and whom to probe next.

A chain of named checks; the first that objects answers. The way to a node or a load balancer is proved by a probe
before it is told to anybody. A proof holds for the pod's life: what an operator before this one has found needs no
repetition.
"""

from dataclasses import dataclass
from datetime import datetime

from sightline_kube.cluster import Obj
from sightline_kube.kinds import UDP_ROUTE
from sightline_model.camera import CameraStatus, ExternalAddress, InternalAddress, NetworkStatus, PortLease
from sightline_model.cameraclass import Network, NetworkMode
from sightline_model.conditions import find
from sightline_model.reasons import ConditionStatus, ConditionType, NetworkReason
from sightline_operator import network, pods
from sightline_operator.clock import after, seconds_until
from sightline_operator.facts import CameraFacts
from sightline_operator.network import Reach
from sightline_operator.probe import Probed, Target
from sightline_operator.verdicts import Verdict, no, yes

PROBE_AGAIN_SECONDS = 3.0
NOTED_SECONDS = 0.5
"""How soon to look again whether the class's status names a port; it is written a second after the lease."""


@dataclass(frozen=True, slots=True)
class NetworkCase:
    """One camera's network, and the pod that stands for its agent."""

    facts: CameraFacts
    network: Network
    pod: Obj | None
    told: bool
    """Whether the agent knows the addresses that it is to name."""
    before: CameraStatus
    reach: Reach
    """Where viewers find that pod."""


def reach(facts: CameraFacts, settings: Network, pod: Obj | None) -> Reach:
    """Where viewers find one pod of the camera."""
    node = facts.nodes.get(pods.node(pod)) if pod else None
    return network.reach(network.effective(settings, pod), pod, node, balancer(facts))


def balancer(facts: CameraFacts) -> Obj | None:
    """The camera's load balancer, if it has one."""
    return next((found for found in facts.exposing if found["spec"].get("type") == "LoadBalancer"), None)


def verdict(case: NetworkCase) -> Verdict:
    """NetworkReady."""
    for check in (_no_port, _no_route, _no_address, _no_turn_secret, _unproved, _unnoted):
        found = check(case)
        if found is not None:
            return found
    return yes(NetworkReason.ADDRESS_PUBLISHED, f"Viewers reach the agent by {case.network.mode.value}.")


def probe(case: NetworkCase, found: Verdict, now: datetime) -> tuple[Target | None, float | None]:
    """Whom to probe now, and in how many seconds to look again."""
    target = _target(case)
    if target is None or not case.told or found.reason not in (NetworkReason.PROBING, NetworkReason.PROBE_FAILED):
        return None, None
    last = _last(case, target)
    if last is not None and last.answered:
        return None, NOTED_SECONDS
    wait = seconds_until(after(last.at, PROBE_AGAIN_SECONDS), now) if last else 0.0
    return (target, PROBE_AGAIN_SECONDS) if wait <= 0 else (None, wait)


def status(case: NetworkCase, ready: bool) -> NetworkStatus | None:
    """What the camera's status says of its network; addresses to dial only once they are proved."""
    own = pods.address(case.pod) if case.pod else ""
    if case.pod is None or not own:
        return None
    way = case.reach
    lease = network.leased(case.pod)
    dialled = () if case.network.mode is NetworkMode.RELAY or not ready else way.addresses
    return NetworkStatus(
        mode=case.network.mode.value,
        internal=[InternalAddress(ip=own, port=network.listens(case.pod, "media"))],
        external=[ExternalAddress(ip=ip, port=way.port, scope=network.scope(ip)) for ip in dialled],
        port_lease=PortLease(port=lease, pod=pods.name_of(case.pod)) if lease else None,
        ice_servers=list(case.network.ice_servers),
        turn=case.network.turn,
    )


def _no_port(case: NetworkCase) -> Verdict | None:
    within = network.port_range(case.network)
    if within is None or case.pod is not None or case.facts.ports.fresh is not None:
        return None
    return no(
        NetworkReason.PORTS_EXHAUSTED,
        f"All ports from {within.first} to {within.last} are held by agents or rest after one: widen "
        "network.portRange of the CameraClass, or wait until one has rested.",
        look_again=case.facts.ports.free_at,
    )


def _no_route(case: NetworkCase) -> Verdict | None:
    refusal = case.facts.refusal
    if not refusal.startswith(UDP_ROUTE.kind):
        return None
    return no(
        NetworkReason.ROUTE_REFUSED,
        f"STUNner's gateway cannot be told of the camera: {refusal} Install STUNner and set stunner.routes of the "
        "chart, or take turn.gatewayRef out of the CameraClass.",
    )


def _no_address(case: NetworkCase) -> Verdict | None:
    why = network.missing(case.network, case.pod, balancer(case.facts))
    if not why and not case.reach.addresses:
        why = "The address of the pod's node is not known yet."
    return no(NetworkReason.ADDRESS_PENDING, why) if why else None


def _no_turn_secret(case: NetworkCase) -> Verdict | None:
    known, turn = case.facts.options.turn_secrets, case.network.turn
    if case.network.mode is not NetworkMode.RELAY or turn is None or known is None or turn.secret_ref in known:
        return None
    return no(
        NetworkReason.TURN_SECRET_MISSING,
        f"The front door does not have the Secret {turn.secret_ref}, with which viewers get credentials for the TURN "
        "server: name it in api.turnSecrets of the chart.",
    )


def _unproved(case: NetworkCase) -> Verdict | None:
    target = _target(case)
    if target is None or _proved_before(case, target):
        return None
    last = _last(case, target)
    where = f"{target.address}:{target.port}"
    if last is None:
        return no(NetworkReason.PROBING, f"The operator is asking the agent whether it can be reached at {where}.")
    if last.answered:
        return None
    return no(
        NetworkReason.PROBE_FAILED,
        f"The agent does not answer at {where} (UDP), where viewers would look for it. Check firewalls of the nodes, "
        f"and that the network plugin supports {case.network.mode.value}; the operator goes on trying.",
    )


def _unnoted(case: NetworkCase) -> Verdict | None:
    """A port that an operator after this one would not know of is told to nobody, so nobody's packets go there."""
    lease = network.leased(case.pod) if case.pod else None
    target = _target(case)
    if lease not in case.facts.ports.unnoted or target is None or _proved_before(case, target):
        return None
    return no(
        NetworkReason.PROBING,
        f"The agent answers; its port {lease} is told to viewers as soon as the CameraClass's status names it, which "
        "takes a second.",
    )


def _target(case: NetworkCase) -> Target | None:
    """What can be asked from inside the cluster, if anybody asks."""
    way = case.reach
    if case.pod is None or not way.probe or not case.facts.ports.probing:
        return None
    return Target(case.facts.namespace, case.facts.name, pods.name_of(case.pod), way.probe, way.port)


def _last(case: NetworkCase, target: Target) -> Probed | None:
    found = case.facts.ports.probed.get(target.pod)
    return found if found is not None and found.target == target else None


def _proved_before(case: NetworkCase, target: Target) -> bool:
    """Whether the stored status tells of this very pod and address as ready."""
    before = case.before
    verdict_before = find(before.conditions, ConditionType.NETWORK_READY)
    if verdict_before is None or verdict_before.status is not ConditionStatus.TRUE or before.network is None:
        return False
    same_pod = before.agent is not None and before.agent.pod == target.pod
    return same_pod and any((at.ip, at.port) == (target.address, target.port) for at in before.network.external)
