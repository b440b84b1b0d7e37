"""Accounts and sessions, listed and removed; seen by both services alike."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf.empty_pb2 import Empty

from service.generated.ondewo.sip import sip_pb2 as sip
from service.generated.sipcore.v1 import resources_pb2
from service.generated.sipcore.v1 import telephony_pb2 as pb
from tests.service.bench import ALICE, Bench
from tests.service.v1.wire import Wire, open_wire, refused, until

Code = grpc.StatusCode
DAVE = "dave@example.com"


@pytest_asyncio.fixture
async def wire() -> AsyncIterator[Wire]:
    async with open_wire(Bench()) as opened:
        yield opened


async def test_accounts_and_sessions(wire: Wire) -> None:
    await wire.session(DAVE, auto_answer=7)
    request = sip.SipRegisterAccountRequest(account_name=f"sip:{ALICE};transport=tcp")
    await wire.sip.SipRegisterAccount(request)
    accounts = list((await wire.stub.ListAccounts(pb.ListAccountsRequest())).accounts)
    registered = resources_pb2.Registration(state=resources_pb2.Registration.REGISTERED)
    assert accounts == [
        resources_pb2.Account(account=ALICE, registration=registered),
        resources_pb2.Account(account=DAVE, registration=registered, session_open=True),
    ]
    assert await wire.stub.GetAccount(pb.GetAccountRequest(account=f"sip:{ALICE}")) == accounts[0]
    assert await wire.stub.GetAccount(pb.GetAccountRequest(account="alice")) == accounts[0]
    sessions = list((await wire.stub.ListSessions(pb.ListSessionsRequest())).sessions)
    assert sessions == [resources_pb2.Session(account=DAVE, auto_answer_interval=7)]
    assert await wire.stub.GetSession(pb.GetSessionRequest(account=DAVE)) == sessions[0]


async def test_the_call_of_an_account(wire: Wire) -> None:
    await wire.connected()
    assert list((await wire.stub.GetAccount(pb.GetAccountRequest(account=ALICE))).call_ids) == ["one"]
    assert (await wire.stub.GetSession(pb.GetSessionRequest(account=ALICE))).call_id == "one"


async def test_an_account_whose_session_ended(wire: Wire) -> None:
    await wire.session()
    await wire.sip.SipEndSession(Empty())
    account = await wire.stub.GetAccount(pb.GetAccountRequest(account=ALICE))
    assert (account.registration.state, account.session_open) == (resources_pb2.Registration.UNREGISTERED, False)
    await wire.session()
    account = await wire.stub.GetAccount(pb.GetAccountRequest(account=ALICE))
    assert (account.registration.state, account.session_open) == (resources_pb2.Registration.REGISTERED, True)


async def test_an_account_whose_registrar_is_silent(wire: Wire) -> None:
    wire.bench.agent.registrar = "silent"
    registering = wire.sip.SipRegisterAccount(sip.SipRegisterAccountRequest(account_name=ALICE))
    await until(lambda: wire.bench.agent.registrations)
    account = await wire.stub.GetAccount(pb.GetAccountRequest(account=ALICE))
    assert account.registration.state == resources_pb2.Registration.PENDING
    registering.cancel()


@pytest.mark.parametrize(
    ("method", "request_", "reason"),
    [
        ("GetAccount", pb.GetAccountRequest, "ACCOUNT_NOT_FOUND"),
        ("GetSession", pb.GetSessionRequest, "ACCOUNT_NOT_FOUND"),
        ("RemoveAccount", pb.RemoveAccountRequest, "ACCOUNT_NOT_FOUND"),
        ("ListCalls", pb.ListCallsRequest, "ACCOUNT_NOT_FOUND"),
    ],
)
async def test_an_account_that_is_not_there(wire: Wire, method: str, request_: Any, reason: str) -> None:
    answer = await refused(getattr(wire.stub, method)(request_(account=DAVE)))
    assert (answer.code, answer.reason, answer.info.metadata["account"]) == (Code.NOT_FOUND, reason, DAVE)
    answer = await refused(getattr(wire.stub, method)(request_(account="no address")))
    assert (answer.code, list(answer.violations)) == (Code.INVALID_ARGUMENT, ["account"])


async def test_no_session(wire: Wire) -> None:
    await wire.sip.SipRegisterAccount(sip.SipRegisterAccountRequest(account_name=ALICE))
    answer = await refused(wire.stub.GetSession(pb.GetSessionRequest(account=ALICE)))
    assert (answer.code, answer.reason) == (Code.NOT_FOUND, "SESSION_NOT_FOUND")


async def test_remove_an_account_in_a_call(wire: Wire) -> None:
    fake = await wire.connected()
    registration = wire.bench.registration
    watching = wire.watch()
    await watching.started()
    await wire.stub.RemoveAccount(pb.RemoveAccountRequest(account=ALICE))
    assert registration.did == ["register", "unregister"]
    assert fake.ended is not None
    assert not (await wire.stub.ListAccounts(pb.ListAccountsRequest())).accounts
    status = await wire.sip.SipGetSipStatus(Empty())
    assert (status.status_type, status.exception_name) == (sip.SipStatus.NO_SESSION, "NoSession")
    assert await watching.kinds("account_removed") == [
        "SOFT_HANGUP_INITIATED",
        "OUTGOING_CALL_FINISHED",
        "call_ended",
        "registration_changed",
        "SESSION_ENDED",
        "account_removed",
    ]
    watching.cancel()


async def test_an_account_can_be_registered_again_while_it_is_removed(wire: Wire) -> None:
    await wire.session()
    removing = asyncio.ensure_future(wire.stub.RemoveAccount(pb.RemoveAccountRequest(account=ALICE)))
    await until(lambda: not wire.bench.accounts.lines)
    await wire.session()
    await removing
    first, second = wire.bench.agent.registrations
    assert (first.did, second.did, second.registered) == (["register", "unregister"], ["register"], True)
    assert [account.session_open for account in (await wire.stub.ListAccounts(pb.ListAccountsRequest())).accounts] == [
        True
    ]


async def test_what_waits_for_an_account_that_is_removed_is_refused(wire: Wire) -> None:
    await wire.session()
    line = wire.bench.accounts.lines[0]
    async with line.lock:
        removing = asyncio.ensure_future(wire.stub.RemoveAccount(pb.RemoveAccountRequest(account=ALICE)))
        starting = asyncio.ensure_future(wire.sip.SipStartSession(sip.SipStartSessionRequest(account_name=ALICE)))
        await until(lambda: line.removed)
        await asyncio.sleep(0)
    await removing
    status = await starting
    assert (status.status_type, status.exception_name) == (sip.SipStatus.NO_SESSION, "AccountNotRegistered")
    assert not wire.bench.accounts.lines
    assert wire.bench.registration.did == ["register", "unregister"]


async def test_a_name_far_too_long_is_refused_by_its_own_code(wire: Wire) -> None:
    """What quotes it is cut, so that gRPC's limit for trailers is kept."""
    answer = await refused(wire.stub.GetCall(pb.GetCallRequest(call_id="ä" * 100_000)))
    assert (answer.code, answer.reason) == (Code.NOT_FOUND, "CALL_NOT_FOUND")
    assert answer.info.metadata["call_id"].startswith("ää")
