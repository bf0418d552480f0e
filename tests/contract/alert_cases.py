"""What each alert of the chart is asked: samples as Prometheus would have them, 15 s apart, and what fires at a moment.

test_alerts.py asks promtool; test_monitoring.py sees to it that no alert is left out.
"""

from typing import NamedTuple

from tests.helpers.chart import NAMESPACE

CAMERA = {"namespace": "site", "sightline_dev_camera": "gate"}


class Fires(NamedTuple):
    """An alert as it arrives: who it is about, and what it says."""

    labels: dict[str, str]
    summary: str


class Case(NamedTuple):
    """Samples, and what of an alert they make at a moment."""

    alert: str
    what: str
    series: dict[str, str]
    at: str
    fires: tuple[Fires, ...] = ()


def operator(metric: str, pod: str = "a", **labels: str) -> str:
    return _of("operator", metric, pod, labels)


def agent(metric: str, pod: str = "a", **labels: str) -> str:
    return _of("agents", metric, pod, CAMERA | labels)


def door(metric: str, pod: str = "a", **labels: str) -> str:
    return _of("api", metric, pod, labels)


def _of(part: str, metric: str, pod: str, labels: dict[str, str]) -> str:
    """A series as it is called once it was scraped from a pod."""
    known = {"job": f"{NAMESPACE}/sightline-{part}", "namespace": NAMESPACE, "pod": pod, "instance": pod} | labels
    matchers = ", ".join(f'{name}="{value}"' for name, value in known.items())
    return f"{metric}{{{matchers}}}"


def says(summary: str, **labels: str) -> tuple[Fires, ...]:
    return (Fires(labels, summary),)


def leads(pod: str = "a") -> str:
    return operator("leader_election_master_status", pod, name="sightline-operator")


CUT_OFF = "sightline_heartbeat_age_seconds"
ERRORS = "controller_runtime_reconcile_errors_total"
REQUESTS = "rest_client_requests_total"
STUCK = "workqueue_longest_running_processor_seconds"
READY = "sightline_camera_ready"
STATE = "sightline_agent_source_state"
REFUSED = "sightline_agent_viewers_refused_total"
SERVED = "sightline_api_requests_total"
RECORDS = "sightline_api_session_records_total"
HOUR = "+0x240"
"""The value before it for an hour."""

CASES = [
    Case("SightlineNoLeader", "no operator is there", {}, "2m", says("No operator works.")),
    Case(
        "SightlineNoLeader",
        "all wait",
        {leads("a"): f"0{HOUR}", leads("b"): f"0{HOUR}"},
        "2m",
        says("No operator works."),
    ),
    Case("SightlineNoLeader", "one leads, one waits", {leads("a"): f"1{HOUR}", leads("b"): f"0{HOUR}"}, "50m"),
    Case("SightlineNoLeader", "one is followed", {leads("a"): "1+0x20 _x200", leads("b"): "0+0x22 1+0x200"}, "6m"),
    Case(
        "SightlineOperatorCutOff",
        "no answer for seven minutes",
        {operator(CUT_OFF): "0+15x240", leads(): f"1{HOUR}"},
        "7m",
        says(
            "The API server has not answered the operator for 7m 0s.",
            job=f"{NAMESPACE}/sightline-operator",
            namespace=NAMESPACE,
            pod="a",
            instance="a",
        ),
    ),
    Case(
        "SightlineOperatorCutOff",
        "who waits asks for nothing",
        {
            operator(CUT_OFF, "a"): "0+15x240",
            leads("a"): f"0{HOUR}",
            operator(CUT_OFF, "b"): f"20{HOUR}",
            leads("b"): f"1{HOUR}",
        },
        "30m",
    ),
    Case(
        "SightlineOperatorCutOff",
        "a slow answer",
        {operator(CUT_OFF): "0+15x19 0+15x19 0+15x19", leads(): f"1{HOUR}"},
        "14m",
    ),
    Case(
        "SightlineOperatorErrors",
        "two fail in five seconds",
        {operator(ERRORS, controller="camera"): "0+6x240"},
        "20m",
        says("Passes of the operator fail, 0.40 in a second."),
    ),
    Case("SightlineOperatorErrors", "one now and then", {operator(ERRORS, controller="camera"): "0+1x240"}, "50m"),
    Case("SightlineOperatorErrors", "a bad minute", {operator(ERRORS, controller="camera"): "0+30x4 120+0x200"}, "8m"),
    Case(
        "SightlineOperatorRequestsFail",
        "a right is missing",
        {
            operator(REQUESTS, method="PATCH", code="403"): "0+3x240",
            operator(REQUESTS, method="PATCH", code="200"): "0+9x240",
        },
        "20m",
        says("The API server answers the operator's PATCH with 403.", method="PATCH", code="403"),
    ),
    Case(
        "SightlineOperatorRequestsFail",
        "no answer at all",
        {operator(REQUESTS, method="GET", code="<error>"): "0+3x240"},
        "20m",
        says("The API server answers the operator's GET with <error>.", method="GET", code="<error>"),
    ),
    Case(
        "SightlineOperatorRequestsFail",
        "conflicts and what is gone belong to the work",
        {operator(REQUESTS, method="PUT", code=code): "0+30x240" for code in ("200", "404", "409", "410", "422")},
        "50m",
    ),
    Case(
        "SightlineOperatorStuck",
        "one pass goes on and on",
        {operator(STUCK, name="sightline"): "0+15x240"},
        "10m",
        says("One pass of the operator has taken 10m 0s."),
    ),
    Case("SightlineOperatorStuck", "slow ones", {operator(STUCK, name="sightline"): "0+20x6 0+20x6 0+20x6"}, "5m"),
    Case(
        "SightlineCamerasNotReady",
        "three for half an hour",
        {operator(READY, status="False"): f"3{HOUR}", operator(READY, status="True"): f"9{HOUR}"},
        "30m",
        says("3 cameras cannot be watched."),
    ),
    Case(
        "SightlineCamerasNotReady",
        "new ones, and all is well again",
        {
            operator(READY, status="Unknown"): f"2{HOUR}",
            operator(READY, status="True"): f"9{HOUR}",
            operator(READY, status="False"): "1+0x50 _x190",
        },
        "14m",
    ),
    Case(
        "SightlineAgentsFail",
        "two reasons",
        {
            operator("sightline_agents", state="CrashLoop"): f"2{HOUR}",
            operator("sightline_agents", state="Unschedulable"): f"1{HOUR}",
        },
        "15m",
        (
            Fires({"state": "CrashLoop"}, "2 cameras have no agent that answers: CrashLoop."),
            Fires({"state": "Unschedulable"}, "1 cameras have no agent that answers: Unschedulable."),
        ),
    ),
    Case(
        "SightlineAgentsFail",
        "states that belong to life",
        {
            operator("sightline_agents", state=state): f"5{HOUR}"
            for state in ("Ready", "Starting", "ScaledToZero", "NotWanted", "Pending")
        },
        "50m",
    ),
    Case(
        "SightlineAgentsSilent",
        "one is not heard",
        {
            operator("sightline_agent_links", state="lost"): f"1{HOUR}",
            operator("sightline_agent_links", state="connected"): f"8{HOUR}",
        },
        "15m",
        says("The operator hears nothing of 1 agents."),
    ),
    Case(
        "SightlineAgentsSilent",
        "connected, and one that starts",
        {
            operator("sightline_agent_links", state="lost"): "1+0x8 0+0x200",
            operator("sightline_agent_links", state="connected"): f"8{HOUR}",
        },
        "12m",
    ),
    Case(
        "SightlinePortsExhausted",
        "two wait",
        {operator("sightline_networks", state="PortsExhausted"): f"2{HOUR}"},
        "10m",
        says("2 cameras wait for a port of the nodes."),
    ),
    Case(
        "SightlinePortsExhausted",
        "others are well",
        {
            operator("sightline_networks", state="AddressPublished"): f"9{HOUR}",
            operator("sightline_networks", state="PortsExhausted"): "1+0x8 _x200",
        },
        "10m",
    ),
    Case(
        "SightlineAddressesUnreachable",
        "of two kinds",
        {
            operator("sightline_networks", state="ProbeFailed"): f"2{HOUR}",
            operator("sightline_networks", state="AddressPending"): f"1{HOUR}",
        },
        "15m",
        says("Viewers could not reach 3 cameras."),
    ),
    Case(
        "SightlineAddressesUnreachable",
        "ports are another alert's",
        {
            operator("sightline_networks", state="AddressPublished"): f"9{HOUR}",
            operator("sightline_networks", state="PortsExhausted"): f"1{HOUR}",
        },
        "50m",
    ),
    Case(
        "SightlineSourceFails",
        "the camera is off",
        {agent(STATE, state="Unreachable"): f"1{HOUR}", agent(STATE, state="Streaming"): f"0{HOUR}"},
        "15m",
        says("Camera gate in site sends no picture.", **CAMERA),
    ),
    Case(
        "SightlineSourceFails",
        "it fails now this way and now that, and its agent was replaced",
        {
            agent(STATE, state="Unreachable"): "1+0x4 0+0x4 1+0x4 0+0x4 1+0x4 _x200",
            agent(STATE, state="ProtocolError"): "0+0x4 1+0x4 0+0x4 1+0x4 0+0x4 _x200",
            agent(STATE, "b", state="Unreachable"): f"_x24 1{HOUR}",
        },
        "12m",
        says("Camera gate in site sends no picture.", **CAMERA),
    ),
    Case(
        "SightlineSourceFails",
        "states that belong to life",
        {agent(STATE, state=state): f"1{HOUR}" for state in ("Idle", "Connecting", "Streaming", "WaitingForPublisher")},
        "50m",
    ),
    Case("SightlineSourceFails", "a short outage", {agent(STATE, state="Stalled"): "0+0x8 1+0x30 0+0x200"}, "11m"),
    Case(
        "SightlineAgentOverloaded",
        "a viewer each minute",
        {agent(REFUSED, code="agent-overloaded"): "0 0 1 1 1 2 2 2 2 3+0x3 4+0x3 5+0x3 6+0x3 7+0x3 8+0x3 9+0x3"},
        "9m",
        says("The agent of site/gate sends viewers away for want of CPU.", **CAMERA),
    ),
    Case("SightlineAgentOverloaded", "one viewer", {agent(REFUSED, code="agent-overloaded"): "0 0 0 0 1+0x200"}, "6m"),
    Case(
        "SightlineAgentOverloaded",
        "the camera's own limit",
        {agent(REFUSED, code="too-many-viewers"): "0+1x240"},
        "50m",
    ),
    Case(
        "SightlineFrontDoorAbsent",
        "none is there",
        {},
        "3m",
        says("No front door answers Prometheus.", job=f"{NAMESPACE}/sightline-api"),
    ),
    Case(
        "SightlineFrontDoorAbsent",
        "one of two is gone",
        {
            door("sightline_api_requests_in_progress", "a"): "1+0x10 _x200",
            door("sightline_api_requests_in_progress", "b"): f"0{HOUR}",
        },
        "30m",
    ),
    Case(
        "SightlineFrontDoorErrors",
        "each tenth",
        {
            door(SERVED, code="500", method="GET", route="/"): "0+3x240",
            door(SERVED, code="200", method="GET", route="/"): "0+27x240",
        },
        "20m",
        says("The front door fails 10% of the requests."),
    ),
    Case(
        "SightlineFrontDoorErrors",
        "each hundredth, and callers' own faults",
        {
            door(SERVED, code="503", method="GET", route="/"): "0+1x240",
            door(SERVED, code="200", method="GET", route="/"): "0+60x240",
            door(SERVED, code="401", method="GET", route="/"): "0+39x240",
        },
        "50m",
    ),
    Case(
        "SightlineFrontDoorErrors",
        "no requests",
        {door(SERVED, code="503", method="GET", route="/"): f"5{HOUR}"},
        "50m",
    ),
    Case(
        "SightlineSessionsNotRecorded",
        "some are dropped, some fail",
        {door(RECORDS, outcome="failed"): "0+2x240", door(RECORDS, outcome="dropped"): "0+1x240"},
        "20m",
        says("Viewers watch without a StreamSession, 0.20 new ones in a second."),
    ),
    Case(
        "SightlineSessionsNotRecorded",
        "written, or no longer wanted",
        {
            door(RECORDS, outcome="created"): "0+30x240",
            door(RECORDS, outcome="discarded"): "0+30x240",
            door(RECORDS, outcome="failed"): f"9{HOUR}",
        },
        "50m",
    ),
]
