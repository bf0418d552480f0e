"""Who is let in, by what viewers cost: the decision as a table, the measure on made-up clocks, the gate over both."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline_agent.admission import EXPERIENCE, Cost, CostMeter, Rules, admission
from sightline_agent.gate import WINDOW_SECONDS, CpuGate, Resource
from sightline_model.problems import ProblemCode

RULES = Rules(headroom=0.1, step=0.05, floor=4)


@pytest.mark.parametrize(
    ("cost", "budget", "viewers", "full", "admitted", "remaining"),
    [
        pytest.param(Cost(), 1.0, 0, False, True, 450, id="nothing measured yet"),
        pytest.param(Cost(0.4, 0.001), 1.0, 100, False, True, 400, id="room"),
        pytest.param(Cost(0.099, 0.001), 1.0, 800, False, True, 1, id="the last one"),
        pytest.param(Cost(0.0995, 0.001), 1.0, 800, False, False, 0, id="less than one fits"),
        pytest.param(Cost(0.06, 0.001), 1.0, 800, False, True, 40, id="below the line"),
        pytest.param(Cost(0.06, 0.001), 1.0, 800, True, False, 0, id="full: not far enough below"),
        pytest.param(Cost(0.04, 0.001), 1.0, 800, True, True, 10, id="full: far enough"),
        pytest.param(Cost(-0.1, 0.001), 1.0, 900, False, True, 100, id="the price was too high"),
        pytest.param(Cost(2.0, 1.0), 0.5, 3, False, True, 1, id="the first few always"),
        pytest.param(Cost(2.0, 1.0), 0.5, 3, True, True, 1, id="also when full"),
        pytest.param(Cost(2.0, 1.0), 0.5, 4, False, False, 0, id="but no more"),
        pytest.param(Cost(0.3, 0.001), 0.5, 100, False, True, 50, id="half a core"),
    ],
)
def test_admission(cost: Cost, budget: float, viewers: int, full: bool, admitted: bool, remaining: int) -> None:
    verdict = admission(cost, budget, viewers, RULES, full)
    assert (verdict.admitted, verdict.remaining) == (admitted, remaining)


@given(
    used=st.floats(0, 16),
    per_viewer=st.floats(0.0001, 1),
    budget=st.floats(0.01, 16),
    viewers=st.integers(0, 5000),
    full=st.booleans(),
)
def test_admission_holds_together(used: float, per_viewer: float, budget: float, viewers: int, full: bool) -> None:
    cost = Cost(used - per_viewer * viewers, per_viewer)
    verdict = admission(cost, budget, viewers, RULES, full)
    assert verdict.admitted == (verdict.remaining > 0)
    if viewers < RULES.floor:
        assert verdict.admitted
    elif verdict.admitted:
        assert cost.expected(viewers + 1) <= budget * (1 - RULES.headroom) + 1e-6
    # As many as are said to fit do fit, one after the other, until the next measure.
    more = admission(cost, budget, viewers + verdict.remaining, RULES, full)
    assert not more.admitted
    # Who is full and refuses would not have let in more if it had not been full.
    assert verdict.remaining >= admission(cost, budget, viewers, RULES, full=True).remaining


def measured(viewers: list[int], base: float, each: float) -> CostMeter:
    """A meter that has seen these numbers of viewers, a window each, at this price."""
    meter = CostMeter()
    now = cpu = 0.0
    before = viewers[0]
    meter.add(now, cpu, before)
    for number in viewers[1:]:
        now += WINDOW_SECONDS
        cpu += WINDOW_SECONDS * (base + each * (before + number) / 2)
        meter.add(now, cpu, number)
        before = number
    return meter


def test_nothing_measured_is_experience() -> None:
    assert CostMeter().cost == Cost(0.0, EXPERIENCE)
    assert measured([0, 0], 0.1, 0.001).cost == Cost(0.0, EXPERIENCE)


@pytest.mark.parametrize("base", [0.0, 0.02, 0.3])
def test_the_price_of_a_viewer_is_the_slope(base: float) -> None:
    cost = measured([0, 0, 0, 0, 10, 20, 40, 80, 100, 100, 100, 100], base, 0.0012).cost
    assert cost.per_viewer == pytest.approx(0.0012, rel=0.05)
    assert cost.expected(100) == pytest.approx(base + 0.12, rel=0.05)


def test_while_viewers_pour_in_use_is_foreseen() -> None:
    cost = measured(list(range(0, 500, 20)), 0.05, 0.001).cost
    assert cost.expected(600) == pytest.approx(0.65, rel=0.02)  # half a minute ahead


def test_without_a_slope_the_average_beyond_idle_counts() -> None:
    crowd = measured([96] * 400, 0.02, 0.001).cost
    assert crowd.per_viewer == pytest.approx(0.00128, rel=0.01)
    assert crowd.expected(96) == pytest.approx(0.116, rel=0.01)
    idle_known = measured([0] * 20 + [96] * 400, 0.02, 0.001).cost
    assert idle_known.per_viewer == pytest.approx(0.00108, rel=0.02)
    few = measured([1] * 400, 0.05, 0.001).cost
    assert few.per_viewer < 0.01
    assert few.expected(1) == pytest.approx(0.051, rel=0.01)


def test_a_noisy_first_measure_keeps_nobody_out() -> None:
    meter = CostMeter()
    cpu = 0.0
    for window, spike in enumerate((0.0, 1.9, 0.9, 0.3, 0.0, 0.0, 0.0, 0.0, 0.0)):  # starting takes seconds of CPU
        cpu += spike + 0.01
        meter.add(WINDOW_SECONDS * window, cpu, window)
        assert admission(meter.cost, 0.5, window, RULES).remaining > 15


def test_a_burst_of_work_closes_nothing_and_a_lasting_one_counts() -> None:
    meter = measured([50] * 20, 0.02, 0.001)
    now, cpu = 38.0, 38.0 * 0.07
    for busy in (0.9, 0.9, 0.07, 0.07, 0.07, 0.9, 0.9, 0.9):
        now, cpu = now + WINDOW_SECONDS, cpu + WINDOW_SECONDS * busy
        full = meter.cost.expected(50) > 0.5
        assert not full
        meter.add(now, cpu, 50)
    assert meter.cost.expected(50) == pytest.approx(0.9)
    assert not admission(meter.cost, 1.0, 50, RULES).admitted


def stormed(rates: list[int], base: float, each: float, join: float) -> tuple[CostMeter, int]:
    """A meter that has seen so many come in each window, of whom nobody leaves; and how many there are now."""
    meter = CostMeter()
    now, cpu, viewers = 0.0, 0.0, 0
    meter.add(now, cpu, viewers, viewers)
    for came in rates:
        now += WINDOW_SECONDS
        cpu += WINDOW_SECONDS * (base + each * (viewers + came / 2)) + join * came
        viewers += came
        meter.add(now, cpu, viewers, viewers)
    return meter, viewers


@pytest.mark.parametrize("join", [0.002, 0.004, 0.006])
@pytest.mark.parametrize("storm", [[110] * 7, [60] * 13, [150, 150, 150, 150, 150, 20]])
def test_a_crowd_that_comes_at_once_is_let_in(storm: list[int], join: float) -> None:
    meter, viewers = stormed([0, 0, 0, 1, 64, 63, 0, 0, 0, 0, *storm], 0.015, 0.0007, join)
    assert viewers >= 898
    assert admission(meter.cost, 1.0, viewers, RULES).admitted
    calm, viewers = stormed([0, 0, 0, 1, 64, 63, 0, 0, 0, 0, *storm, *[0] * 30], 0.015, 0.0007, join)
    assert calm.cost.per_viewer == pytest.approx(0.0007, rel=0.1)
    assert calm.cost.expected(viewers) == pytest.approx(0.015 + 0.0007 * viewers, rel=0.1)


def test_who_come_and_go_all_the_time_are_paid_for() -> None:
    meter = CostMeter()
    for window in range(200):
        now = WINDOW_SECONDS * window
        meter.add(now, now * (0.02 + 0.001 * 100 + 30 * 0.004), 100, round(30 * now))
    assert meter.cost.expected(100) == pytest.approx(0.24, rel=0.02)


def test_readings_that_go_backwards_do_no_harm() -> None:
    meter = CostMeter()
    for now, cpu in ((0, 5), (2, 1), (2, 9), (1, 9), (3, 9), (4, 8), (5, 7), (6, 7), (7, 0)):  # a child ended
        meter.add(now, cpu, 3)
        assert meter.used >= 0
        assert meter.cost.per_viewer > 0


class Machine:
    """CPU clocks that viewers wind."""

    def __init__(self, budget: float, each: float) -> None:
        self.cpu = self.now = 0.0
        self.viewers = self.before = 0
        self.each = each
        self.gate = CpuGate([Resource("process", budget, lambda: self.cpu)], RULES)

    def windows(self, count: int) -> None:
        for _ in range(count):
            self.now += WINDOW_SECONDS
            self.cpu += WINDOW_SECONDS * self.each * (self.before + self.viewers) / 2
            self.before = self.viewers
            self.gate.tick(self.now, self.viewers)

    def crowd(self) -> int:
        """Everybody who is let in comes; how many those are."""
        while self.gate.admit(self.viewers) is None:
            self.viewers += 1
            if self.viewers % 50 == 0:
                self.windows(1)
        return self.viewers


def test_the_gate_closes_before_the_budget_is_used_and_opens_again() -> None:
    machine = Machine(budget=1.0, each=0.001)
    machine.windows(3)
    assert machine.crowd() == pytest.approx(900, abs=5)
    machine.windows(20)
    problem = machine.gate.admit(machine.viewers)
    assert problem is not None
    assert (problem.code, problem.status) == (ProblemCode.AGENT_OVERLOADED, 503)
    assert problem.retry_after_seconds
    report = machine.gate.report(machine.viewers)
    assert (report.full, report.remaining_viewers) == (True, 0)
    assert report.cpu_used == pytest.approx(0.9, rel=0.01)
    assert report.cpu_per_viewer == pytest.approx(0.001, rel=0.05)
    machine.viewers -= 20  # some leave: not enough to let others in
    machine.windows(10)
    assert machine.gate.admit(machine.viewers) is not None
    machine.viewers -= 60
    machine.windows(10)
    assert machine.gate.admit(machine.viewers) is None
    assert machine.gate.report(machine.viewers).cpu_per_viewer == pytest.approx(0.001, rel=0.05)


def test_a_gate_that_was_not_asked_for_long_still_shows_its_state() -> None:
    machine = Machine(budget=0.1, each=0.01)
    machine.windows(2)
    machine.crowd()
    machine.viewers = 0
    machine.windows(30)
    report = machine.gate.report(0)
    assert not report.full
    assert report.remaining_viewers > 0


def test_the_scarcer_resource_decides() -> None:
    plenty, scarce = Resource("process", 8.0, lambda: 0.0), Resource("loop", 0.02, lambda: 0.0)
    gate = CpuGate([plenty, scarce], RULES)
    assert gate.report(0).resource == "loop"
    assert gate.admit(5) is None
    assert gate.admit(50) is not None
    assert (plenty.full, scarce.full) == (False, True)
