"""SipRegisterAccount, SipStartSession, SipEndSession, and which account a request is about."""

from __future__ import annotations

import asyncio

import pytest

from service.accounts import Scope
from service.errors import ServerStopping
from service.line import LineOptions
from service.status import StatusType
from sipcore.errors import AuthenticationFailed, InvalidRequest, RegistrationTimeout
from tests.kit.fake_agent import FakeCall
from tests.service.bench import ALICE, Bench, settle
from tests.service.virtual import in_virtual_time


@in_virtual_time
async def test_life_cycle_of_a_session_is_the_table_of_contract_3() -> None:
    bench = Bench()
    assert bench.current.type is StatusType.NO_SESSION
    registered = await bench.register()
    assert registered.type is StatusType.REGISTERED
    assert registered.account == ALICE
    ready = await bench.start()
    assert ready.type is StatusType.READY
    ended = await bench.end_session()
    assert ended.type is StatusType.SESSION_ENDED
    assert bench.types() == ["REGISTERED", "SESSION_STARTED", "READY", "SESSION_ENDED"]
    assert bench.current == ended
    assert bench.registration.did == ["register", "unregister"]


@in_virtual_time
async def test_a_refused_registration_is_a_status_with_code_name_and_sentence() -> None:
    bench = Bench()
    bench.agent.registrar = AuthenticationFailed("403 Forbidden from sip:example.com", code=403)
    status = await bench.register(password="wrong")
    assert status.type is StatusType.SESSION_REGISTRATION_FAILED
    assert status.exception == "AuthenticationFailed"
    assert status.sip_code == 403
    assert status.description.startswith("403 Forbidden from sip:example.com")
    assert "wrong" not in repr(status)
    assert bench.types() == ["SESSION_REGISTRATION_FAILED"]


@in_virtual_time
async def test_registered_is_recorded_again_after_a_failure_but_not_on_refreshes() -> None:
    bench = Bench()
    await bench.register()
    bench.registration.succeed()  # a refresh
    await settle()
    assert bench.types() == ["REGISTERED"]
    bench.registration.fail(RegistrationTimeout("No answer from sip:example.com", code=408))
    bench.registration.succeed()
    await settle()
    assert bench.types() == ["REGISTERED", "SESSION_REGISTRATION_FAILED", "REGISTERED"]


@in_virtual_time
async def test_registering_again_with_the_same_settings_refreshes_and_with_others_starts_anew() -> None:
    bench = Bench()
    await bench.register()
    again = await bench.register()
    assert again.type is StatusType.REGISTERED
    assert bench.registration.did == ["register", "register"]
    await bench.register(password="another")
    assert len(bench.agent.registrations) == 2
    assert bench.agent.registrations[0].did[-1] == "unregister"
    assert bench.types() == ["REGISTERED"] * 3


@in_virtual_time
async def test_the_right_password_after_a_wrong_one() -> None:
    bench = Bench()
    bench.agent.registrar = AuthenticationFailed("401 Unauthorized", code=401)
    await bench.register(password="wrong")
    bench.agent.registrar = "accepts"
    assert (await bench.register(password="right")).type is StatusType.REGISTERED
    assert bench.agent.registrations[0].did == ["register", "drop"]


@in_virtual_time
async def test_registration_near_its_deadline_returns_and_goes_on() -> None:
    bench = Bench()
    bench.agent.registrar = "silent"
    status = await bench.register(deadline=2.0)
    assert status.type is StatusType.NO_SESSION
    assert bench.types() == []
    bench.registration.succeed()
    await settle()
    assert bench.types() == ["REGISTERED"]


@in_virtual_time
async def test_a_registration_near_its_deadline_is_not_taken_for_an_earlier_one() -> None:
    bench = Bench()
    await bench.register()
    bench.agent.registrar = "silent"
    status = await bench.register(password="another", deadline=2.0)
    assert (status.type, status.description) == (
        StatusType.NO_SESSION,
        "The registration of alice@example.com has no outcome yet",
    )


@in_virtual_time
async def test_a_cancelled_registration_is_given_up_and_the_history_says_so() -> None:
    bench = Bench()
    bench.agent.registrar = "silent"
    task = asyncio.create_task(bench.register())
    await settle()
    task.cancel()
    await settle()
    assert bench.registration.did == ["register", "drop"]
    assert bench.types() == ["SESSION_REGISTRATION_FAILED"]
    assert bench.current.exception == "RegistrationCancelled"


@in_virtual_time
async def test_a_session_of_an_unknown_account_is_refused_and_not_recorded() -> None:
    bench = Bench()
    status = await bench.start("nobody@example.com")
    assert (status.type, status.exception) == (StatusType.NO_SESSION, "AccountNotRegistered")
    assert status.account == "nobody@example.com"
    assert bench.types("nobody@example.com") == []


@in_virtual_time
async def test_a_session_registers_again_where_the_binding_lapsed() -> None:
    bench = Bench()
    await bench.register()
    bench.registration.fail(RegistrationTimeout("no answer"))
    assert (await bench.start()).type is StatusType.READY
    assert bench.types()[-3:] == ["REGISTERED", "SESSION_STARTED", "READY"]
    await bench.end_session()
    assert (await bench.start()).type is StatusType.READY
    assert len(bench.agent.registrations) == 2


@in_virtual_time
async def test_a_session_is_refused_where_registering_again_fails() -> None:
    bench = Bench()
    await bench.register()
    bench.agent.registrar = RegistrationTimeout("No answer", code=408)
    bench.registration.fail(RegistrationTimeout("No answer", code=408))
    status = await bench.start()
    assert (status.type, status.exception, status.sip_code) == (
        StatusType.NO_SESSION,
        "AccountNotRegistered",
        408,
    )
    assert "READY" not in bench.types()


@in_virtual_time
async def test_ending_no_session_is_refused_and_only_a_repetition_is_recorded() -> None:
    bench = Bench()
    assert (await bench.end_session()).exception == "NoSession"
    await bench.register()
    assert (await bench.end_session()).exception == "NoSession"
    assert bench.types() == ["REGISTERED"]
    await bench.start()
    await bench.end_session()
    again = await bench.end_session()
    assert (again.type, again.exception) == (StatusType.NO_SESSION, "NoSession")
    assert bench.types()[-2:] == ["SESSION_ENDED", "NO_SESSION"]


@in_virtual_time
async def test_ending_a_session_that_is_being_ended_is_a_repetition_of_it() -> None:
    bench = Bench()
    call = await bench.connected()
    call.bye_delay = 1.0
    first, second = await asyncio.gather(bench.end_session(), bench.end_session())
    assert (first.type, second.type) == (StatusType.SESSION_ENDED, StatusType.NO_SESSION)
    assert bench.types()[-2:] == ["SESSION_ENDED", "NO_SESSION"]


@in_virtual_time
async def test_ending_a_session_that_a_stopping_server_has_closed_is_refused_and_not_recorded() -> None:
    bench = Bench()
    await bench.connected()
    bench.accounts.stop_taking_calls()
    assert (await bench.end_session()).exception == "NoSession"
    assert bench.types()[-1] == "OUTGOING_CALL_CONNECTED"


@in_virtual_time
async def test_ending_a_session_ends_its_call_first() -> None:
    bench = Bench()
    call = await bench.connected()
    assert (await bench.end_session()).type is StatusType.SESSION_ENDED
    assert call.did == ["hangup"]
    assert bench.types()[-3:] == ["SOFT_HANGUP_INITIATED", "OUTGOING_CALL_FINISHED", "SESSION_ENDED"]


@in_virtual_time
async def test_ending_a_session_does_not_wait_for_a_far_end_that_never_answers_bye() -> None:
    bench = Bench(LineOptions(hangup_patience=4.0))
    call = await bench.connected()
    call.bye_delay = 32.0
    before = asyncio.get_running_loop().time()
    assert (await bench.end_session()).type is StatusType.SESSION_ENDED
    assert asyncio.get_running_loop().time() - before < 5
    assert call.did == ["hangup", "hangup_now"]


# -- which account


@in_virtual_time
async def test_the_active_account_is_the_newest_session_else_the_newest_registration() -> None:
    bench = Bench()
    await bench.register("alice@example.com")
    assert bench.current.account == "alice@example.com"
    await bench.register("carol@example.com")
    assert bench.current.account == "carol@example.com"
    await bench.start("alice@example.com")
    assert bench.current.account == "alice@example.com"
    await bench.register("dave@example.com")
    assert bench.current.account == "alice@example.com"
    await bench.start("carol@example.com")
    assert bench.current.account == "carol@example.com"
    assert bench.accounts.status(Scope("dave@example.com")).account == "dave@example.com"


@in_virtual_time
@pytest.mark.parametrize(
    ("registered", "named"),
    [
        ("alice@example.com", "sip:alice@example.com"),
        ("sip:alice@example.com;transport=tcp", "alice@example.com"),
        ("alice@192.0.2.1:5099", "sip:alice@192.0.2.1:5099"),
        ("alice@[2001:db8::1]", "sip:alice@[2001:DB8::1]"),
        ("alice@example.com", "alice"),
    ],
)
async def test_one_account_in_several_spellings(registered: str, named: str) -> None:
    bench = Bench()
    assert (await bench.register(registered)).account == registered
    assert (await bench.start(named)).account == named
    assert bench.accounts.status(Scope(registered)).type is StatusType.READY


@in_virtual_time
async def test_a_port_makes_another_account_and_a_bare_user_must_be_unambiguous() -> None:
    bench = Bench()
    await bench.register("alice@example.com")
    await bench.register("alice@example.com:5099")
    assert (await bench.start("alice@example.com:5098")).exception == "AccountNotRegistered"
    assert (await bench.start("alice")).exception == "AccountNotRegistered"
    assert (await bench.start("alice@example.com:5099")).type is StatusType.READY
    assert bench.types("alice@example.com") == ["REGISTERED"]


@in_virtual_time
async def test_metadata_that_name_an_unknown_account() -> None:
    bench = Bench()
    await bench.session()
    status = bench.accounts.status(Scope("nobody@example.com"))
    assert (status.type, status.exception) == (StatusType.NO_SESSION, "NoSession")
    assert bench.accounts.history(Scope("nobody@example.com")) == ()
    assert (await bench.dial(account="nobody@example.com")).type is StatusType.NO_SESSION


# -- malformed requests: whatever the state, nothing sent, nothing recorded


@in_virtual_time
@pytest.mark.parametrize("name", ["", " ", "@", "alice@", "@example.com", "alice@ex ample.com", "a@b@c", "alice@x:0x"])
async def test_an_account_that_is_none_is_malformed(name: str) -> None:
    bench = Bench()
    with pytest.raises(InvalidRequest) as raised:
        await bench.register(name)
    assert raised.value.field == "account_name"
    assert bench.agent.registrations == []


@in_virtual_time
@pytest.mark.parametrize("field", ["account_name", "password", "auth_username", "outbound_proxy"])
async def test_line_breaks_and_nul_are_malformed_anywhere_and_not_repeated_in_the_message(field: str) -> None:
    bench = Bench()
    for character in "\r\n\0":
        values = {"account_name": ALICE, "password": "hush", "auth_username": "a", "outbound_proxy": "p.net"}
        values[field] += character + "x"
        name, password, user, proxy = values.values()
        with pytest.raises(InvalidRequest) as raised:
            await bench.accounts.register_account(name, password, user, proxy, lambda: None)
        assert raised.value.field == field
        assert "hush" not in str(raised.value)
    assert bench.agent.registrations == []


@in_virtual_time
async def test_empty_account_in_metadata_is_malformed() -> None:
    bench = Bench()
    with pytest.raises(InvalidRequest) as raised:
        bench.accounts.status(Scope(""))
    assert raised.value.field == "x-sip-account"


# -- stopping


@in_virtual_time
async def test_a_stopping_server_takes_no_new_work_and_no_calls() -> None:
    bench = Bench()
    await bench.session()
    bench.accounts.stop_taking_calls()
    for request in (bench.register(), bench.start(), bench.dial()):
        with pytest.raises(ServerStopping):
            await request
    assert bench.registration.invite("sip:bob@example.com") == 480
    await bench.accounts.close()
    assert not isinstance(bench.registration.screen, FakeCall)
