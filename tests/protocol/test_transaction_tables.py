"""The whole product of state and input of the four machines (RFC 3261 figures 5-8, RFC 6026)."""

from __future__ import annotations

import itertools
import re

import pytest

from sipcore.protocol.transaction_tables import (
    INVITE_CLIENT,
    INVITE_SERVER,
    NON_INVITE_CLIENT,
    NON_INVITE_SERVER,
    Action,
    Ignore,
    Input,
    Machine,
    State,
    Timer,
    Transition,
)

MACHINES = (INVITE_CLIENT, NON_INVITE_CLIENT, INVITE_SERVER, NON_INVITE_SERVER)
REPORTS = (
    Action.DELIVER,
    Action.DELIVER_ACK,
    Action.REPORT_TIMEOUT,
    Action.REPORT_TRANSPORT,
)
CITATION = re.compile(r"RFC \d{4} §\d+(\.\d+)*")

each_machine = pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)


@each_machine
def test_every_cell_is_an_arrow_or_a_named_ignore(machine: Machine) -> None:
    """Total: no input in any state is a KeyError, and nothing outside of the product is written down."""
    product = set(itertools.product(machine.timers, machine.inputs))
    assert set(machine.table) == product
    for cell in machine.table.values():
        if isinstance(cell, Ignore):
            assert len(cell.reason) > 10
        else:
            assert CITATION.search(cell.section)


@each_machine
def test_every_arrow_leads_to_a_state_of_its_machine(machine: Machine) -> None:
    """And each state is reached from the first one."""
    assert machine.start.state in machine.timers
    reached = {machine.start.state}
    while True:
        further = {
            cell.state
            for (state, _), cell in machine.table.items()
            if state in reached and isinstance(cell, Transition)
        }
        if further <= reached:
            break
        reached |= further
    assert reached == set(machine.timers)


@each_machine
def test_every_state_can_end_without_any_message(machine: Machine) -> None:
    """Nothing depends on its peer to be forgotten; ringing INVITEs depend on their user alone (§17.1.1.2)."""
    patient = {(INVITE_CLIENT.name, State.PROCEEDING), (INVITE_SERVER.name, State.PROCEEDING)}
    for state, timers in machine.timers.items():
        if state is State.TERMINATED or (machine.name, state) in patient:
            continue
        ends = [machine.table[state, Input(timer)] for timer in timers]
        assert any(isinstance(cell, Transition) and cell.state is State.TERMINATED for cell in ends), state


@each_machine
def test_a_started_timer_may_run_in_the_next_state(machine: Machine) -> None:
    """Otherwise it would fire into an ignored cell."""
    for transition in (machine.start, *machine.table.values()):
        if isinstance(transition, Transition):
            for action in transition.actions:
                if isinstance(action, Timer):
                    assert action in machine.timers[transition.state]


@each_machine
def test_timers_that_run_are_not_ignored_and_others_are(machine: Machine) -> None:
    """§17: each timer belongs to the states its figure shows it in."""
    for (state, event), cell in machine.table.items():
        if isinstance(event.value, Timer):
            assert isinstance(cell, Ignore) == (event.value not in machine.timers[state])


@each_machine
def test_reports_come_last(machine: Machine) -> None:
    """Whoever is told may call the layer again: state, timers and wire must be settled by then."""
    for transition in (machine.start, *machine.table.values()):
        if isinstance(transition, Transition):
            reports = [action in REPORTS for action in transition.actions]
            assert reports == sorted(reports)
            assert sum(reports) <= 1


@each_machine
def test_nothing_leads_out_of_terminated(machine: Machine) -> None:
    """§17.1.1.2: destroyed."""
    for event in machine.inputs:
        assert isinstance(machine.table[State.TERMINATED, event], Ignore)


def test_all_timers_of_the_rfcs_but_c_are_there() -> None:
    """RFC 3261 table 4, RFC 6026 §7; timer C is a proxy's (§16.6)."""
    running = {timer for machine in MACHINES for timers in machine.timers.values() for timer in timers}
    assert running == set(Timer)
    assert {timer.value for timer in Timer if len(timer.value) == 1} == set("ABDEFGHIJKLM")


@pytest.mark.parametrize(
    ("machine", "path"),
    [
        (INVITE_CLIENT, "Calling 1xx Proceeding 2xx Accepted 2xx Accepted M Terminated"),
        (INVITE_CLIENT, "Calling 300 Completed 300 Completed D Terminated"),
        (INVITE_CLIENT, "Calling A Calling B Terminated"),
        (NON_INVITE_CLIENT, "Trying E Trying 1xx Proceeding E Proceeding final Completed K Terminated"),
        (NON_INVITE_CLIENT, "Trying 1xx Proceeding F Terminated"),
        (INVITE_SERVER, "Proceeding s1xx Proceeding s2xx Accepted request Accepted L Terminated"),
        (INVITE_SERVER, "Proceeding s300 Completed G Completed ack Confirmed I Terminated"),
        (INVITE_SERVER, "Proceeding s300 Completed H Terminated"),
        (NON_INVITE_SERVER, "Trying s1xx Proceeding sfinal Completed request Completed J Terminated"),
    ],
)
def test_paths_of_the_figures(machine: Machine, path: str) -> None:
    """Figures 5-8 of RFC 3261 as redrawn by RFC 6026, written down a second time."""
    names = {
        "1xx": Input.RECEIVE_1XX,
        "2xx": Input.RECEIVE_2XX,
        "300": Input.RECEIVE_300_699,
        "final": Input.RECEIVE_FINAL,
        "s1xx": Input.SEND_1XX,
        "s2xx": Input.SEND_2XX,
        "s300": Input.SEND_300_699,
        "sfinal": Input.SEND_FINAL,
        "request": Input.RECEIVE_REQUEST,
        "ack": Input.RECEIVE_ACK,
    }
    state, *steps = path.split()
    assert machine.start.state is State(state)
    for event, after in zip(steps[::2], steps[1::2], strict=True):
        cell = machine.table[State(state), names.get(event) or Input(Timer(event))]
        arrived = State(state) if isinstance(cell, Ignore) else cell.state
        assert arrived is State(after), (state, event)
        state = after
