"""Pods that were to be made and that nobody has seen yet: each further attempt takes the same name and the same port.

`core` asks here around each pass of a camera. The API server may have made a pod without our hearing of it (a time-out,
a broken connection), and while the watch is broken too only the name tells: applied again, it is the pod that is there
and no second one. In network mode NodePort a refused pod has a Service already; a new name for each attempt would need
another Service and another port each time, and every Service that comes or goes brings the camera's next pass at once.

Only for as long as the process lives: a new one lists everything before it makes anything.
"""

from dataclasses import dataclass, replace

from sightline_kube.cluster import Obj
from sightline_model import names
from sightline_operator import accept, network, pods
from sightline_operator.facts import CameraFacts
from sightline_operator.lessor import Lessor


@dataclass(frozen=True, slots=True)
class _Attempt:
    suffix: str
    port: int | None
    specs: tuple[object, ...]
    """What the pod was made from: another spec may be another pod, and that needs another name."""


class Attempts:
    """The last attempt for each camera that has one."""

    def __init__(self, lessor: Lessor) -> None:
        self._lessor = lessor
        self._last: dict[tuple[str, str], _Attempt] = {}

    def __len__(self) -> int:
        return len(self._last)

    def again(self, facts: CameraFacts) -> CameraFacts:
        """The facts, with the name and the port of the last attempt if that may not have come about."""
        last = self._last.get((facts.namespace, facts.name))
        if last is None:
            return facts
        name = names.agent_pod(facts.name, last.suffix)
        settings = accept.class_spec_or_default(facts.camera_class).network
        seen = any(pods.name_of(pod) == name for pod in facts.pods)
        fits = last.specs == _specs(facts) and self._lessor.may_lease(settings, facts.namespace, name, last.port)
        if seen or not fits:
            self.over(facts.namespace, facts.name)
            return facts
        ports = facts.ports if last.port is None else replace(facts.ports, fresh=last.port)
        return replace(facts, fresh_suffix=last.suffix, ports=ports)

    def begin(self, facts: CameraFacts, new_pod: tuple[Obj, ...]) -> None:
        """These objects, the pod last, are about to be made."""
        if new_pod:
            attempt = _Attempt(facts.fresh_suffix, network.leased(new_pod[-1]), _specs(facts))
            self._last[facts.namespace, facts.name] = attempt

    def over(self, namespace: str, name: str) -> None:
        """The pod was made, or nobody wants it any more."""
        self._last.pop((namespace, name), None)


def _specs(facts: CameraFacts) -> tuple[object, ...]:
    """Which specs the facts are about."""
    found = (obj["metadata"] if obj else {} for obj in (facts.camera, facts.camera_class))
    return tuple((metadata.get("uid"), metadata.get("generation")) for metadata in found)
