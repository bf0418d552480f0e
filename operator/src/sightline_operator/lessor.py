"""Feeds the port ledger and the prober from the cache, and hands what they know to decisions. The border between the
pure parts (`ports`, `network`, `reachable`) and `core`, which calls it around each pass.
"""

from collections.abc import Callable, Mapping
from typing import Any

from sightline_kube.cache import Cache, Key
from sightline_kube.cluster import Obj
from sightline_kube.kinds import CAMERA_CLASS, POD, SERVICE
from sightline_model import names
from sightline_model.cameraclass import Network
from sightline_operator import accept, classes, network, pods
from sightline_operator.clock import Clock
from sightline_operator.facts import CameraFacts, ClassFacts, Ports
from sightline_operator.ports import QUARANTINE_SECONDS, Holder, PortLedger, names_port
from sightline_operator.probe import Prober, Target

_LEASING = frozenset(mode.value for mode in network.LEASING)
_PROBED = _LEASING | {"LoadBalancer"}


class Lessor:
    """Leases of ports and proofs of addresses, for one operator."""

    def __init__(
        self,
        cache: Cache,
        prober: Prober | None,
        clock: Clock,
        changed: Callable[[Key], None],
        quarantine: float = QUARANTINE_SECONDS,
    ) -> None:
        """`changed` is told of every class whose status may have to name other ports."""
        self._cache = cache
        self._prober = prober
        self._changed = changed
        self._ledger = PortLedger(clock, quarantine, self._ports_changed)
        cache.subscribe(self._observe)

    def recover(self) -> None:
        """Once the cache is synced: let rest what an operator before this one had handed out and nobody holds."""
        for camera_class in self._cache.list(CAMERA_CLASS):
            self._ledger.recover(classes.stored(camera_class).ports)

    def ports(self, facts: CameraFacts) -> Ports:
        """What a decision about this camera needs to know."""
        mode = _mode(facts.camera_class)
        held = mode in _PROBED or any(network.leased(pod) for pod in facts.pods)
        if not held:
            return Ports()
        results = (
            self._prober.result(facts.namespace, pods.name_of(pod)) if self._prober else None for pod in facts.pods
        )
        probed = {result.target.pod: result for result in results if result}
        within = network.port_range(accept.class_spec_or_default(facts.camera_class).network)
        fresh = self._ledger.free(within) if within else None
        free_at = self._ledger.free_at(within) if within and fresh is None else None
        return Ports(fresh, free_at, probed, self._prober is not None, _unnoted(facts))

    def free(self, settings: Network) -> int | None:
        """A port for a pod that has no camera yet; None where the mode needs none, or none is free."""
        within = network.port_range(settings)
        return self._ledger.free(within) if within else None

    def may_lease(self, settings: Network, namespace: str, pod: str, port: int | None) -> bool:
        """Whether a pod of that name may have the port, or none, that it was to have before."""
        within = network.port_range(settings)
        if within is None or port is None:
            return within is None and port is None
        holders = ((kind.kind, namespace, pod) for kind in (SERVICE, POD))
        return within.first <= port <= within.last and self._ledger.may_lease(port, *holders)

    def lease(self, objects: tuple[Obj, ...]) -> None:
        """Reserve what these objects, about to be made, will hold. Nothing may be awaited since `ports`."""
        holders = [(_holder(obj), port) for obj in objects if (port := network.leased(obj))]
        if holders:
            self._ledger.lease(holders[0][1], *(holder for holder, _ in holders))

    def refused(self, obj: Obj, refusal: str) -> None:
        """The API server does not want one of them."""
        port = network.leased(obj)
        if not port:
            return
        self._ledger.refused(_holder(obj))
        if network.port_taken(refusal):
            self._ledger.avoid(port)

    def probe(self, target: Target | None) -> None:
        """Ask an agent, if somebody wants to know."""
        if target is not None and self._prober is not None:
            self._prober.ask(target)

    def text(self, facts: ClassFacts) -> str:
        """What the class's status is to say of its ports; its agents may be from before its range, or mode, was
        edited."""
        within = network.port_range(accept.class_spec_or_default(facts.camera_class).network)
        name = pods.name_of(facts.camera_class)
        own = {port for port, holder in self._ledger.outside(within) if self._class_of(holder) == name}
        return self._ledger.text(within, own, classes.stored(facts.camera_class).ports)

    def states(self) -> Mapping[str, int]:
        """How many ports are held and how many rest."""
        return self._ledger.states()

    def _observe(self, key: Key, before: Obj | None, now: Obj | None) -> None:
        """The cache's subscriber."""
        if key.kind not in (POD, SERVICE) or not _ours(now or before):
            return
        port = network.leased(now) if now else None
        if port or (before and network.leased(before)):
            self._ledger.seen((key.kind.kind, key.namespace, key.name), port)
        if now is None and key.kind == POD and self._prober is not None:
            self._prober.forget(key.namespace, key.name)

    def _class_of(self, holder: Holder) -> str:
        """The class of what holds a port; empty while nobody has seen it."""
        kind, namespace, name = holder
        found = self._cache.get(POD if kind == POD.kind else SERVICE, namespace, name)
        return str(((found or {"metadata": {}})["metadata"].get("labels") or {}).get(names.CLASS_LABEL, ""))

    def _ports_changed(self) -> None:
        for camera_class in self._cache.list(CAMERA_CLASS):
            if _mode(camera_class) in _LEASING or (camera_class.get("status") or {}).get("ports"):
                self._changed(Key(CAMERA_CLASS, "", pods.name_of(camera_class)))


def _mode(camera_class: Obj | None) -> str:
    """The mode as the object says it; the class need not be valid."""
    settings: dict[str, Any] = ((camera_class or {}).get("spec") or {}).get("network") or {}
    return str(settings.get("mode", "PodIP"))


def _unnoted(facts: CameraFacts) -> frozenset[int]:
    noted = classes.stored(facts.camera_class).ports if facts.camera_class else ""
    held = {port for pod in facts.pods if (port := network.leased(pod))}
    return frozenset(port for port in held if not names_port(noted, port))


def _holder(obj: Obj) -> tuple[str, str, str]:
    return str(obj["kind"]), str(obj["metadata"]["namespace"]), pods.name_of(obj)


def _ours(obj: Obj | None) -> bool:
    labels = (obj or {"metadata": {}})["metadata"].get("labels") or {}
    return labels.get(names.MANAGED_BY_LABEL) == names.MANAGED_BY
