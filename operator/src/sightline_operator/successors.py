"""What a camera's status tells while one agent takes over from another: who still serves, who comes, and what waits."""

from datetime import datetime

from sightline_kube.cluster import Obj
from sightline_model.camera import CameraStatus
from sightline_model.reasons import ConditionStatus, ConditionType
from sightline_operator import camerastatus, diagnosis, pods
from sightline_operator.accept import AcceptedCamera
from sightline_operator.facts import CameraFacts
from sightline_operator.generations import Generations, answers


def told(
    status: CameraStatus, facts: CameraFacts, accepted: AcceptedCamera, chosen: Generations, now: datetime
) -> CameraStatus:
    """The status, with the agents beside the one that it is about."""
    others = [pod for pod in chosen.serving if pod is not chosen.standing]
    former = [pod for pod in others if answers(pod, facts.links)]
    if former:
        status = _with_former(status, facts, accepted, former)
    coming = [pod for pod in others if pod not in former]
    if coming:
        verdict = diagnosis.agent(camerastatus.agent_case(facts, accepted, coming[0], now))
        return noted(status, f"Another one is to take over. {verdict.message}")
    if chosen.standing is not None and facts.refusal:
        return noted(status, f"The API server refuses its successor: {facts.refusal}")
    return status


def noted(status: CameraStatus, note: str) -> CameraStatus:
    """The status, with a note for people where AgentReady is true: else there are worse things to tell."""
    conditions = [
        condition.model_copy(update={"message": f"{condition.message} {note}"[:1024]})
        if condition.type == ConditionType.AGENT_READY and condition.status is ConditionStatus.TRUE
        else condition
        for condition in status.conditions
    ]
    return status.model_copy(update={"conditions": conditions})


def _with_former(status: CameraStatus, facts: CameraFacts, accepted: AcceptedCamera, former: list[Obj]) -> CameraStatus:
    links = [facts.links[pods.name_of(pod)] for pod in former]
    watching = sum(camerastatus.viewers_of(link) for link in links)
    drain = accepted.camera_class.rollout.drain_timeout if accepted.camera_class else ""
    agents = [camerastatus.agent_status(pod, link.report) for pod, link in zip(former, links, strict=True)]
    note = f"Viewers of {', '.join(pods.name_of(pod) for pod in former)} have {drain} to move."
    changes = {"former_agents": [agent for agent in agents if agent], "viewers": status.viewers + watching}
    return noted(status.model_copy(update=changes), note)
