"""Leases of ports: never two at once, never again within the quarantine, and known to the next operator."""

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sightline_model.cameraclass import PortRange
from sightline_operator.ports import (
    MAX_TEXT,
    QUARANTINE_SECONDS,
    RESERVED_SECONDS,
    Holder,
    PortLedger,
    names_port,
    parse_ports,
    write_ports,
)
from tests.operator.samples import NOW

FOUR = PortRange(first=20000, last=20003)
CONNTRACK_SECONDS = 120.0


class Counting(PortLedger):
    """Counts the ports that are looked at."""

    looks = 0

    def _taken(self, port: int) -> bool:
        self.looks += 1
        return super()._taken(port)


def test_asking_again_and_again_does_not_look_through_all_ports_each_time() -> None:
    """Each pass of a camera asks, and a new operator has handed out none yet."""
    ledger, within = Counting(lambda: NOW), PortRange(first=20000, last=20999)
    for port in range(20000, 20900):
        ledger.seen(pod(str(port)), port)
    assert ledger.free(within) == 20900
    ledger.looks = 0
    for _ in range(100):
        assert ledger.free(within) == 20900
    assert ledger.looks <= 100
    ledger.lease(20900, pod("next"))
    assert ledger.free(within) == 20901


def pod(name: str) -> Holder:
    return ("Pod", "default", name)


class Ticking:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> object:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Ticking:
    return Ticking()


@pytest.fixture
def ledger(clock: Ticking) -> PortLedger:
    return PortLedger(clock)  # type: ignore[arg-type]


def test_ports_are_handed_out_in_turn(ledger: PortLedger) -> None:
    for name in "abcd":
        port = ledger.free(FOUR)
        assert port is not None
        ledger.lease(port, pod(name))
    assert [ledger._held[pod(name)] for name in "abcd"] == [20000, 20001, 20002, 20003]
    assert ledger.free(FOUR) is None
    assert ledger.free_at(FOUR) is None


def test_a_taken_port_is_not_leased(ledger: PortLedger) -> None:
    ledger.seen(pod("a"), 20000)
    with pytest.raises(ValueError, match="taken"):
        ledger.lease(20000, pod("b"))


def test_a_port_rests_after_its_last_holder(ledger: PortLedger, clock: Ticking) -> None:
    one = PortRange(first=20000, last=20000)
    ledger.lease(20000, ("Service", "default", "a"), pod("a"))
    for holder in (("Service", "default", "a"), pod("a")):
        ledger.seen(holder, 20000)
    ledger.seen(pod("a"), None)
    assert ledger.free_at(one) is None
    ledger.seen(("Service", "default", "a"), None)
    assert ledger.free_at(one) == NOW + timedelta(seconds=QUARANTINE_SECONDS)
    clock.pass_(QUARANTINE_SECONDS - 1)
    assert ledger.free(one) is None
    clock.pass_(1)
    assert ledger.free(one) == 20000


def test_a_refused_port_is_free_at_once_and_a_foreign_one_is_avoided(ledger: PortLedger) -> None:
    ledger.lease(20000, pod("a"))
    ledger.refused(pod("a"))
    assert ledger.text(FOUR) == ""
    ledger.lease(20001, ("Service", "default", "a"), pod("a"))
    ledger.refused(("Service", "default", "a"))
    ledger.avoid(20001)
    assert ledger.text(FOUR) == "20001"
    ledger.seen(pod("b"), 20002)
    ledger.refused(pod("b"))
    assert ledger.states() == {"held": 1, "quarantined": 1}


def test_what_is_named_outside_of_the_range(ledger: PortLedger, clock: Ticking) -> None:
    """What the class's own agents hold, and what rests of that; not what agents of others do with the same ports."""
    for name, port in (("inside", 20000), ("own", 25000), ("gone", 25001), ("never noted", 25002), ("others", 25003)):
        ledger.seen(pod(name), port)
    ledger.seen(pod("gone"), None)
    ledger.seen(pod("never noted"), None)
    assert ledger.text(FOUR, {25000, 25009}, "25000-25001,25003,25010") == "20000,25000-25001"
    assert ledger.text(None, {25000}, "25001") == "25000-25001"
    assert sorted(ledger.outside(FOUR)) == [(25000, pod("own")), (25003, pod("others"))]
    assert sorted(port for port, _ in ledger.outside(None)) == [20000, 25000, 25003]
    assert ledger.text(FOUR) == "20000"
    clock.pass_(QUARANTINE_SECONDS)
    assert ledger.text(None, {25000}, "25001") == "25000"


def test_a_pod_that_is_refused_beside_its_service_leaves_nothing_behind(ledger: PortLedger, clock: Ticking) -> None:
    service = ("Service", "default", "a")
    ledger.lease(20000, service, pod("a"))
    ledger.seen(service, 20000)
    ledger.refused(pod("a"))
    assert ledger.states() == {"held": 1, "quarantined": 0}
    ledger.seen(service, None)
    assert ledger.states() == {"held": 0, "quarantined": 0}
    # Where nobody knows what became of the pod, its port rests.
    ledger.lease(20001, service, pod("a"))
    ledger.seen(service, 20001)
    clock.pass_(RESERVED_SECONDS)
    ledger.seen(service, None)
    assert ledger.states() == {"held": 0, "quarantined": 1}
    # And where the pod was there, whatever went first.
    ledger.lease(20002, service, pod("b"))
    ledger.seen(service, 20002)
    ledger.seen(pod("b"), 20002)
    ledger.seen(pod("b"), None)
    ledger.seen(service, None)
    assert ledger.states() == {"held": 0, "quarantined": 2}


def test_the_port_of_a_service_from_before_this_operator_rests(ledger: PortLedger) -> None:
    """Its pod may have gone while nobody looked."""
    service = ("Service", "default", "a")
    ledger.seen(service, 20000)
    ledger.seen(service, None)
    assert ledger.states() == {"held": 0, "quarantined": 1}


def test_a_reservation_whose_object_never_came_ends_in_quarantine(ledger: PortLedger, clock: Ticking) -> None:
    ledger.lease(20000, pod("a"))
    clock.pass_(RESERVED_SECONDS)
    assert ledger.states() == {"held": 0, "quarantined": 1}


def test_the_next_operator_lets_rest_what_nobody_holds(ledger: PortLedger, clock: Ticking) -> None:
    ledger.seen(pod("a"), 20001)
    ledger.recover("20000-20001,nonsense,20003,7-")
    assert ledger.free(FOUR) == 20002
    clock.pass_(QUARANTINE_SECONDS)
    assert ledger.text(FOUR) == "20001"


@given(st.sets(st.integers(1024, 65535), max_size=300))
def test_ports_are_written_and_read(ports: set[int]) -> None:
    text = write_ports(ports)
    assert set(parse_ports(text)) == ports
    near = {port + step for port in ports for step in (-1, 0, 1)}
    assert {port for port in near if names_port(text, port)} == ports


def test_a_long_text_names_too_many_rather_than_too_few() -> None:
    ports = set(range(20000, 29999, 2))
    text = write_ports(ports)
    assert len(text) <= MAX_TEXT
    assert ports < set(parse_ports(text))


class Ports(RuleBasedStateMachine):
    """Pods and Services come and go, operators die at any moment; packets to a port are remembered by the nodes."""

    @initialize()
    def begin(self) -> None:
        self.clock = Ticking()
        self.within = PortRange(first=20000, last=20005)
        self.ledger = PortLedger(self.clock)  # type: ignore[arg-type]
        self.objects: dict[Holder, int] = {}
        self.lost: set[Holder] = set()
        self.gone_at: dict[int, object] = {}
        self.written = ""
        self.number = 0

    def write(self) -> None:
        self.written = self.ledger.text(self.within)

    @rule(lost=st.booleans())
    def make(self, lost: bool) -> None:
        """A pod is made; the answer may be lost, and only a later LIST shows it."""
        port = self.ledger.free(self.within)
        if port is None:
            return
        assert port not in self.objects.values(), "handed out twice"
        gone = self.gone_at.get(port)
        if gone is not None:
            assert (self.clock.now - gone).total_seconds() >= CONNTRACK_SECONDS, "handed out too early"  # type: ignore[operator]
        self.number += 1
        holder = pod(f"p{self.number}")
        self.ledger.lease(port, holder)
        self.objects[holder] = port
        if lost:
            self.lost.add(holder)
        else:
            self.ledger.seen(holder, port)
        self.write()

    @rule()
    def refuse(self) -> None:
        port = self.ledger.free(self.within)
        if port is not None:
            self.ledger.lease(port, pod("refused"))
            self.ledger.refused(pod("refused"))

    @precondition(lambda self: self.objects)
    @rule(data=st.data(), told=st.booleans())
    def delete(self, data: st.DataObject, told: bool) -> None:
        """A pod goes; the event may come only with the next LIST."""
        holder = data.draw(st.sampled_from(sorted(self.objects)))
        self.gone_at[self.objects.pop(holder)] = self.clock.now
        if told and holder not in self.lost:
            self.ledger.seen(holder, None)
            self.write()
        self.lost.discard(holder)

    @rule()
    def list_again(self) -> None:
        """The sweep: every object is told, and what is gone too."""
        for holder, port in self.objects.items():
            self.ledger.seen(holder, port)
        self.lost.clear()
        for holder in [known for known in self.ledger._held if known not in self.objects]:
            if holder not in self.ledger._reserved:
                self.ledger.seen(holder, None)
        self.write()

    @rule(seconds=st.floats(1, 60))
    def wait(self, seconds: float) -> None:
        self.clock.pass_(seconds)
        self.list_again()

    @rule()
    def restart(self) -> None:
        """A new operator knows the objects and what was written."""
        self.ledger = PortLedger(self.clock)  # type: ignore[arg-type]
        for holder, port in self.objects.items():
            self.ledger.seen(holder, port)
        self.lost.clear()
        self.ledger.recover(self.written)

    @invariant()
    def every_object_holds_its_port(self) -> None:
        if hasattr(self, "objects"):
            held = [port for holder, port in self.objects.items() if holder not in self.lost]
            assert len(set(self.objects.values())) == len(self.objects)
            assert {port for port in held if port not in self.ledger._leases} == set()


Ports.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestPorts = Ports.TestCase
