"""The Services that lead viewers to pods, one pod each, and STUNner's routes: which to make, to mend and to delete.

UDP behind a Service is spread over all pods that it selects, and a viewer's packets must reach the one that answered.
So each pod has its own node port, and a load balancer follows the pod that serves.
"""

from collections.abc import Sequence

from sightline_kube.cluster import Obj
from sightline_model import names
from sightline_model.agent import MEDIA_PORT
from sightline_model.cameraclass import NetworkMode
from sightline_operator import build, network, pods
from sightline_operator.build import Plan
from sightline_operator.drift import drifted
from sightline_operator.facts import CameraFacts
from sightline_operator.generations import Generations

Changes = tuple[tuple[Obj, ...], tuple[Obj, ...]]


def changes(plan: Plan, facts: CameraFacts, own: Sequence[Obj], chosen: Generations) -> Changes:
    """Services to apply, and Services to delete."""
    standing = chosen.standing
    wanted = {pods.name_of(service): service for service in _wanted(plan, own, standing)}
    found = {pods.name_of(service): service for service in facts.exposing if not pods.deleting(service)}
    apply = [obj for name, service in wanted.items() for obj in drifted(service, found.get(name))]
    # A pod that is on its way out, or of a mode that the class has left, keeps its Service to its end.
    needed = wanted.keys() | {pods.name_of(pod) for pod in own}
    # So does one whose pod is being tried again.
    if chosen.make:
        needed.add(names.agent_pod(facts.name, facts.fresh_suffix))
    return tuple(apply), tuple(service for name, service in found.items() if name not in needed)


def route(plan: Plan, service: Obj | None) -> Changes:
    """The UDPRoute to apply or to delete. Routes are not watched: the camera's Service notes which was written."""
    wanted = build.udp_route(plan)
    noted = pods.annotation(service, names.ROUTE_HASH_ANNOTATION) if service else ""
    if wanted is None:
        stale = {"metadata": {"namespace": plan.namespace, "name": names.agent_service(plan.name)}}
        return (), ((stale,) if noted else ())
    return (() if noted == pods.desired_hash(wanted) else (wanted,)), ()


def _wanted(plan: Plan, own: Sequence[Obj], standing: Obj | None) -> list[Obj]:
    mode = plan.camera_class.network.mode
    if mode is NetworkMode.LOAD_BALANCER:
        service = build.exposing_service(plan, pods.name_of(standing) if standing else "", MEDIA_PORT)
        return [service] if service else []
    if mode is not NetworkMode.NODE_PORT:
        return []
    made = (
        build.exposing_service(plan, pods.name_of(pod), port)
        for pod in own
        if pods.live(pod)
        and network.effective(plan.camera_class.network, pod).mode is mode
        and (port := network.leased(pod))
    )
    return [service for service in made if service]
