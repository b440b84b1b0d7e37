"""The demo's registrar against RFC 3261 §10.3, with the credentials that the library itself makes."""

from __future__ import annotations

import random
from typing import cast

from service.demo.registrar import Registrar
from sipcore.protocol.builder import make_request
from sipcore.protocol.digest import Credentials, DigestClient
from sipcore.protocol.ids import Ids
from sipcore.protocol.transaction import ServerTransaction
from sipcore.protocol.values import Uri
from sipcore.protocol.wire import Request, Response

CONTACT = "<sip:alice@192.0.2.1:5060>"
NOBODYS_TRANSACTION = cast("ServerTransaction", None)
"""The registrar answers from the request alone."""


class Phone:
    """Sends REGISTER to a registrar and answers its challenges."""

    def __init__(self, registrar: Registrar, *, username: str = "alice", password: str = "secret") -> None:
        self.registrar = registrar
        self.digest = DigestClient(Credentials(username, password), Ids(random.Random(1)))
        self.cseq = 0

    def register(
        self,
        *contacts: str,
        expires: int | None = None,
        to: str = "alice",
        call_id: str = "a",
        cseq: int | None = None,
        headers: tuple[tuple[str, str], ...] = (),
        now: float = 0.0,
    ) -> Response:
        """The final response, after at most one challenge."""
        request = self.request(*contacts, expires=expires, to=to, call_id=call_id, cseq=cseq, headers=headers)
        response = self.registrar.handle(request, NOBODYS_TRANSACTION, now)
        if response.status == 401 and self.digest.answer(request, response):
            response = self.registrar.handle(request, NOBODYS_TRANSACTION, now)
        return response

    def request(
        self,
        *contacts: str,
        expires: int | None = None,
        to: str = "alice",
        call_id: str = "a",
        cseq: int | None = None,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> Request:
        """A REGISTER without credentials."""
        self.cseq += 1
        lines = [("Contact", contact) for contact in contacts]
        if expires is not None:
            lines.append(("Expires", str(expires)))
        request = make_request(
            "REGISTER",
            Uri.parse("sip:example.test"),
            from_=f"<sip:{to}@example.test>;tag=1",
            to=f"<sip:{to}@example.test>",
            call_id=call_id,
            cseq=self.cseq if cseq is None else cseq,
            headers=(*lines, *headers),
        )
        request.headers.prepend("Via", "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1")
        return request


def registrar() -> Registrar:
    """One that knows alice and bob."""
    return Registrar("test", {"alice": "secret", "bob": "other"}, rng=random.Random(0), min_expires=60)


def test_section_22_2_without_credentials_every_algorithm_is_offered() -> None:
    box = registrar()
    response = box.handle(Phone(box).request(CONTACT), NOBODYS_TRANSACTION, 0.0)
    assert response.status == 401
    offered = response.headers.get_all("WWW-Authenticate")
    assert [("SHA-256" in line, "MD5" in line) for line in offered] == [(True, False), (False, True)]
    assert response.to_tag


def test_step_8_the_answer_lists_the_binding_with_what_was_granted() -> None:
    box = registrar()
    response = Phone(box).register(CONTACT, expires=120)
    assert response.status == 200
    assert response.headers.get_all("Contact") == ["<sip:alice@192.0.2.1:5060>;expires=120"]
    assert [str(binding.contact) for binding in box.bindings("alice", 119.0)] == ["sip:alice@192.0.2.1:5060"]


def test_a_binding_runs_out() -> None:
    box = registrar()
    Phone(box).register(CONTACT, expires=120)
    assert box.bindings("alice", 120.0) == ()


def test_the_contacts_own_expiry_counts_more_than_the_header() -> None:
    response = Phone(registrar()).register(f"{CONTACT};expires=90", expires=300)
    assert response.headers.get_all("Contact") == ["<sip:alice@192.0.2.1:5060>;expires=90"]


def test_a_request_without_any_expiry_gets_the_default_and_a_long_one_the_maximum() -> None:
    phone = Phone(registrar())
    assert [contact.params["expires"] for contact in phone.register(CONTACT).contacts] == ["600"]
    assert [contact.params["expires"] for contact in phone.register(CONTACT, expires=99_999).contacts] == ["3600"]


def test_step_7_too_brief_an_interval_gets_423_and_changes_nothing() -> None:
    box = registrar()
    response = Phone(box).register(CONTACT, expires=59)
    assert (response.status, response.headers.get("Min-Expires")) == (423, "60")
    assert box.bindings("alice", 0.0) == ()


def test_a_refresh_replaces_the_binding() -> None:
    box = registrar()
    phone = Phone(box)
    phone.register(CONTACT, expires=120)
    phone.register(CONTACT, expires=120, now=100.0)
    assert [binding.expires_at for binding in box.bindings("alice", 100.0)] == [220.0]


def test_two_contacts_are_two_bindings_and_a_fetch_lists_both() -> None:
    phone = Phone(registrar())
    phone.register(CONTACT)
    phone.register("<sip:alice@192.0.2.2>", call_id="b")
    assert len(phone.register().contacts) == 2


def test_expires_0_removes_one_binding() -> None:
    box = registrar()
    phone = Phone(box)
    phone.register(CONTACT)
    assert phone.register(CONTACT, expires=0).contacts == ()
    assert box.bindings("alice", 0.0) == ()


def test_step_6_a_star_removes_all_bindings() -> None:
    box = registrar()
    phone = Phone(box)
    phone.register(CONTACT, "<sip:alice@192.0.2.2>")
    assert phone.register("*", expires=0).status == 200
    assert box.bindings("alice", 0.0) == ()


def test_step_6_a_star_needs_expires_0_and_nothing_beside_it() -> None:
    box = registrar()
    phone = Phone(box)
    phone.register(CONTACT)
    assert phone.register("*", expires=60).status == 400
    assert phone.register("*", CONTACT, expires=0).status == 400
    assert len(box.bindings("alice", 0.0)) == 1


def test_step_7_an_old_cseq_of_the_same_call_id_is_refused() -> None:
    box = registrar()
    phone = Phone(box)
    phone.register(CONTACT, cseq=5)
    assert phone.register(CONTACT, expires=0, cseq=5).status == 400
    assert len(box.bindings("alice", 0.0)) == 1
    assert phone.register(CONTACT, expires=0, cseq=1, call_id="after a restart").status == 200


def test_step_3_a_wrong_password_is_challenged_again_and_binds_nothing() -> None:
    box = registrar()
    assert Phone(box, password="guess").register(CONTACT).status == 401
    assert box.bindings("alice", 0.0) == ()


def test_step_4_nobody_may_register_for_somebody_else() -> None:
    box = registrar()
    assert Phone(box, username="bob", password="other").register(CONTACT).status == 403
    assert box.bindings("alice", 0.0) == ()


def test_step_5_an_unknown_address_of_record_is_not_found() -> None:
    assert Phone(registrar()).register(CONTACT, to="carol").status == 404


def test_step_2_an_unknown_extension_is_refused() -> None:
    response = Phone(registrar()).register(CONTACT, headers=(("Require", "gruu"),))
    assert (response.status, response.headers.get("Unsupported")) == (420, "gruu")


def test_an_old_nonce_is_stale_and_the_phone_goes_on_by_itself() -> None:
    phone = Phone(registrar())
    phone.register(CONTACT)
    request = phone.request(CONTACT)
    phone.digest.apply(request)
    response = phone.registrar.handle(request, NOBODYS_TRANSACTION, 4000.0)
    assert "stale=true" in (response.headers.get("WWW-Authenticate") or "")
    assert phone.digest.answer(request, response)
    assert phone.registrar.handle(request, NOBODYS_TRANSACTION, 4000.0).status == 200
