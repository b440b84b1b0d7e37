"""Keys of SRTP in offers and answers (RFC 4568, RFC 7714, RFC 8643)."""

from __future__ import annotations

import base64
import copy
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipcore.errors import MediaNotAcceptable
from sipcore.protocol.ids import Ids
from sipcore.protocol.offer_answer import OfferAnswer
from sipcore.protocol.sdes import SUITES, Crypto, SrtpKey, SrtpUse, cryptos_of
from sipcore.protocol.sdp import MediaDescription, parse_sdp

LONG, LONG_TOO = (base64.b64encode(bytes([each] * 30)).decode() for each in (1, 2))
SHORT = base64.b64encode(bytes(range(28))).decode()
SHA1_80, SHA1_32, GCM = "AES_CM_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_32", "AEAD_AES_128_GCM"
PLAIN, SECURE = "RTP/AVP", "RTP/SAVP"


def side(use: SrtpUse, seed: int = 1) -> OfferAnswer:
    return OfferAnswer(codecs=["PCMU"], host="192.0.2.1", port=4000, ids=Ids(random.Random(seed)), srtp=use)


def body(profile: str, *cryptos: str, port: int = 5000, more: tuple[str, ...] = ()) -> bytes:
    lines = ["v=0", "o=- 1 1 IN IP4 192.0.2.9", "s=-", "c=IN IP4 192.0.2.9", "t=0 0", f"m=audio {port} {profile} 0"]
    return "\r\n".join([*lines, *(f"a=crypto:{each}" for each in cryptos), *more, ""]).encode()


def keys_in(description: bytes) -> list[Crypto]:
    (audio,) = parse_sdp(description).media
    return cryptos_of(audio)


def profile_of(description: bytes) -> str:
    return parse_sdp(description).media[0].protocol


# -- offers -------------------------------------------------------------------------------------------------------


def test_who_requires_srtp_offers_nothing_else_with_a_new_key_for_each_suite() -> None:
    """RFC 4568 §5.1.1, §6.1."""
    offer = side("required").create_offer()
    assert profile_of(offer) == SECURE
    cryptos = keys_in(offer)
    assert [(each.tag, each.key.suite) for each in cryptos] == [(1, SHA1_80), (2, GCM), (3, SHA1_32)]
    assert [len(each.key.material) for each in cryptos] == [30, 28, 30]
    others = keys_in(side("required", seed=2).create_offer())
    assert len({each.key.material for each in (*cryptos, *others)}) == 6


def test_who_may_encrypt_offers_both_in_one_section_and_who_may_not_offers_no_key() -> None:
    """RFC 8643 §3.1."""
    offer = side("optional").create_offer()
    assert profile_of(offer) == PLAIN
    assert len(keys_in(offer)) == 3
    forbidden = side("forbidden").create_offer()
    assert profile_of(forbidden) == PLAIN
    assert b"crypto" not in forbidden


# -- answers to the peer's offers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", [PLAIN, SECURE])
@pytest.mark.parametrize("use", ["optional", "required"])
def test_an_answer_keeps_profile_tag_and_suite_and_has_a_key_of_its_own(use: SrtpUse, profile: str) -> None:
    """RFC 4568 §5.1.2, RFC 8643 §3.2; suites that are not ours are passed over."""
    offer = body(
        profile, f"1 AES_256_CM_HMAC_SHA1_80 inline:{LONG}", f"7 {GCM} inline:{SHORT}", f"8 {SHA1_80} inline:{LONG}"
    )
    answer, media = side(use).answer(offer)
    (crypto,) = keys_in(answer)
    assert (profile_of(answer), crypto.tag, crypto.key.suite) == (profile, 7, GCM)
    assert media.srtp is not None
    assert media.srtp.suite == GCM
    assert media.srtp.local == crypto.key
    assert media.srtp.remote.material == bytes(range(28))
    assert crypto.key.material != bytes(range(28))


def test_who_may_not_encrypt_answers_keys_in_a_plain_offer_in_the_clear() -> None:
    """RTP/AVP with keys is a plain offer for who does not know RFC 8643."""
    answer, media = side("forbidden").answer(body(PLAIN, f"1 {SHA1_80} inline:{LONG}"))
    assert b"crypto" not in answer
    assert media.srtp is None


@pytest.mark.parametrize(
    ("use", "offer", "why"),
    [
        ("forbidden", body(SECURE, f"1 {SHA1_80} inline:{LONG}"), "switched off"),
        ("required", body(PLAIN), "required"),
        ("required", body(PLAIN, "1 NEW_SUITE inline:secret"), "no SRTP key"),
        ("required", body(SECURE), "no SRTP key"),
        ("optional", body(SECURE), "no SRTP key"),
        ("optional", body(SECURE, f"1 {SHA1_80} inline:{SHORT}"), "no SRTP key"),
        ("optional", body("UDP/TLS/RTP/SAVP", f"1 {SHA1_80} inline:{LONG}"), "RTP/AVP or RTP/SAVP"),
    ],
)
def test_offers_that_do_not_fit_get_488_and_no_key_is_told(use: SrtpUse, offer: bytes, why: str) -> None:
    with pytest.raises(MediaNotAcceptable, match=why) as refused:
        side(use).answer(offer)
    assert refused.value.code == 488
    assert "inline" not in str(refused.value)


@pytest.mark.parametrize(("use", "ports"), [("forbidden", [0, 4000]), ("optional", [4000, 0]), ("required", [4000, 0])])
def test_of_two_sections_the_encrypted_one_is_taken_by_who_may(use: SrtpUse, ports: list[int]) -> None:
    """What some far ends offer instead of RFC 8643: the same audio with and without."""
    offer = body(SECURE, f"1 {SHA1_80} inline:{LONG}", more=("m=audio 5002 RTP/AVP 0",))
    answer, media = side(use).answer(offer)
    assert [each.port for each in parse_sdp(answer).media] == ports
    assert (media.srtp is not None) == (use != "forbidden")
    swapped = body(PLAIN, more=("m=audio 5002 RTP/SAVP 0", f"a=crypto:1 {SHA1_80} inline:{LONG}"))
    answer, _ = side(use).answer(swapped)
    assert [each.port for each in parse_sdp(answer).media] == ports[::-1]


GOOD = {
    f"1 {SHA1_80} inline:{LONG}": b"",
    f"1 {SHA1_80} inline:{LONG}|2^20": b"",
    f"1 {SHA1_80} inline:{LONG}|1000000": b"",
    f"1 {SHA1_80} inline:{LONG}|2^31|1:1": b"\x01",
    f"1 {SHA1_80} inline:{LONG}|66051:4": b"\x00\x01\x02\x03",
    f"1 {SHA1_80} inline:{LONG} WSH=128": b"",
    f"1 {SHA1_80} inline:{LONG} -SOMETHING=5 WSH=64": b"",
    f"999999999\t{SHA1_80}  inline:{LONG}": b"",
    f"1 aead_aes_128_gcm inline:{SHORT.rstrip('=')}": b"",
}
BAD = [
    "",
    "1",
    f"x {SHA1_80} inline:{LONG}",
    f"9999999999 {SHA1_80} inline:{LONG}",
    f"1 {SHA1_80} {LONG}",
    f"1 {SHA1_80} inline:",
    f"1 {SHA1_80} inline:{LONG[:-4]}",
    f"1 {SHA1_80} inline:{LONG[:-1]}",
    f"1 {SHA1_80} inline:{LONG[:-1]}!",
    f"1 {SHA1_80} inline:{LONG}{LONG}",
    f"1 {GCM} inline:{LONG}",
    f"1 NULL_HMAC_SHA1_80 inline:{LONG}",
    f"1 {SHA1_80} inline:{LONG}|1:1;inline:{LONG}|2:1",
    f"1 {SHA1_80} inline:{LONG}|1:0",
    f"1 {SHA1_80} inline:{LONG}|1:129",
    f"1 {SHA1_80} inline:{LONG}|256:1",
    f"1 {SHA1_80} inline:{LONG}|forever",
    f"1 {SHA1_80} inline:{LONG} UNENCRYPTED_SRTP",
    f"1 {SHA1_80} inline:{LONG} UNENCRYPTED_SRTCP",
    f"1 {SHA1_80} inline:{LONG} UNAUTHENTICATED_SRTP",
    f"1 {SHA1_80} inline:{LONG} KDR=1",
    f"1 {SHA1_80} inline:{LONG} WSH=128 FEC_ORDER=FEC_SRTP",
    f"1 {SHA1_80} inline:{LONG} WSH=1",
]


@pytest.mark.parametrize("value", GOOD)
def test_lifetime_mki_and_hints_are_understood(value: str) -> None:
    """RFC 4568 §6.1, §6.3.7, §9.2; a lifetime is the far end's to keep, and padding is often left out."""
    (crypto,) = keys_in(body(SECURE, value))
    assert crypto.key.mki == GOOD[value]
    assert len(crypto.key.material) == SUITES[crypto.key.suite]
    _, media = side("required").answer(body(SECURE, value))
    assert media.srtp is not None
    assert media.srtp.remote == crypto.key
    assert media.srtp.local.mki == b""


@pytest.mark.parametrize("value", BAD)
def test_what_is_malformed_unknown_or_weakens_the_protection_is_passed_over(value: str) -> None:
    """RFC 4568 §6.3: parameters that are not understood, or not wanted, make the attribute one not to be chosen."""
    offer = body(SECURE, value, f"2 {SHA1_32} inline:{LONG_TOO}")
    (crypto,) = keys_in(side("required").answer(offer)[0])
    assert (crypto.tag, crypto.key.suite) == (2, SHA1_32)
    with pytest.raises(MediaNotAcceptable):
        side("required").answer(body(SECURE, value))


@given(st.text(max_size=200))
def test_no_attribute_raises(value: str) -> None:
    audio = MediaDescription("audio", 5000, SECURE, ["0"], attributes=[("crypto", value)])
    assert len(cryptos_of(audio)) <= 1


# -- answers of the peer ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("tag", "suite", "key"), [(1, SHA1_80, LONG), (2, GCM, SHORT), (3, SHA1_32, LONG)])
@pytest.mark.parametrize(("use", "profile"), [("required", SECURE), ("optional", PLAIN), ("optional", SECURE)])
def test_the_answer_chooses_the_suite(use: SrtpUse, profile: str, tag: int, suite: str, key: str) -> None:
    """RFC 4568 §5.1.3; some answer an offer of RTP/AVP with keys by RTP/SAVP."""
    dialog = side(use)
    offered = keys_in(dialog.create_offer())
    media = dialog.accept_answer(body(profile, f"{tag} {suite} inline:{key}"))
    assert media.srtp is not None
    assert media.srtp.suite == suite
    assert media.srtp.local == offered[tag - 1].key
    assert media.srtp.remote.material == base64.b64decode(key)
    assert profile_of(dialog.create_offer()) == profile


def test_who_may_encrypt_takes_an_answer_without() -> None:
    """RFC 8643 §3.3."""
    dialog = side("optional")
    dialog.create_offer()
    assert dialog.accept_answer(body(PLAIN)).srtp is None


@pytest.mark.parametrize(
    ("use", "answer"),
    [
        ("required", body(SECURE)),
        ("required", body(PLAIN)),
        ("required", body(PLAIN, f"1 {SHA1_80} inline:{LONG}")),
        ("required", body(SECURE, f"4 {SHA1_80} inline:{LONG}")),
        ("required", body(SECURE, f"1 {GCM} inline:{SHORT}")),
        ("required", body(SECURE, f"1 {SHA1_80} inline:{LONG} UNENCRYPTED_SRTP")),
        ("optional", body(PLAIN, f"4 {SHA1_80} inline:{LONG}")),
        ("optional", body(PLAIN, f"1 {SHA1_80} inline:{SHORT}")),
        ("optional", body(SECURE)),
        ("forbidden", body(SECURE, f"1 {SHA1_80} inline:{LONG}")),
    ],
)
def test_answers_to_something_else_are_refused(use: SrtpUse, answer: bytes) -> None:
    dialog = side(use)
    dialog.create_offer()
    with pytest.raises(MediaNotAcceptable) as refused:
        dialog.accept_answer(answer)
    assert refused.value.code == 488
    assert dialog.current is None


def test_keys_in_an_answer_that_nobody_asked_for_mean_nothing() -> None:
    dialog = side("forbidden")
    dialog.create_offer()
    assert dialog.accept_answer(body(PLAIN, f"1 {SHA1_80} inline:{LONG}")).srtp is None


def test_each_branch_of_a_forked_call_has_its_own_far_key() -> None:
    """Early media: a preview on a copy, as forks have it (RFC 6337 §3.1.1)."""
    dialog = side("required")
    dialog.create_offer()
    first, second = copy.copy(dialog), copy.copy(dialog)
    one = first.accept_answer(body(SECURE, f"1 {SHA1_80} inline:{LONG}")).srtp
    two = second.accept_answer(body(SECURE, f"2 {GCM} inline:{SHORT}")).srtp
    assert one is not None
    assert two is not None
    assert one.remote != two.remote
    assert one.local != two.local


# -- later exchanges ----------------------------------------------------------------------------------------------


def secured(use: SrtpUse = "required") -> OfferAnswer:
    """The peer has called, with key LONG."""
    dialog = side(use)
    dialog.answer(body(SECURE, f"5 {SHA1_80} inline:{LONG}"))
    return dialog


def local_of(dialog: OfferAnswer) -> SrtpKey:
    assert dialog.current is not None
    assert dialog.current.srtp is not None
    return dialog.current.srtp.local


def test_a_hold_changes_no_key_whoever_asks_for_it() -> None:
    """RFC 4568 §7.1.4: the key stays, and so its packets can be read on."""
    dialog = secured()
    key = local_of(dialog)
    offer = dialog.create_offer(direction="sendonly")
    assert keys_in(offer) == [Crypto(5, key)]
    assert profile_of(offer) == SECURE
    dialog.accept_answer(body(SECURE, f"5 {SHA1_80} inline:{LONG}", more=("a=recvonly",)))
    assert local_of(dialog) == key
    answer, media = dialog.answer(body(SECURE, f"1 {SHA1_80} inline:{LONG}", more=("a=sendonly",)))
    assert keys_in(answer) == [Crypto(1, key)]
    assert media.remote_hold


def test_a_refresh_repeats_the_offer_as_it_was() -> None:
    """RFC 4028 §7.4, RFC 3264 §8: the same version for the same description."""
    for use in ("optional", "required"):
        dialog = side(use)
        offer = dialog.create_offer()
        dialog.accept_answer(body(profile_of(offer), f"2 {GCM} inline:{SHORT}"))
        assert dialog.create_offer() == offer


def test_the_far_end_changes_its_key_or_the_suite() -> None:
    dialog = secured()
    key = local_of(dialog)
    _, media = dialog.answer(body(SECURE, f"1 {SHA1_80} inline:{LONG_TOO}"))
    assert media.srtp is not None
    assert media.srtp.remote.material == bytes([2] * 30)
    assert media.srtp.local == key
    dialog.answer(body(SECURE, f"1 {GCM} inline:{SHORT}"))
    assert local_of(dialog).suite == GCM


def test_only_who_may_do_without_goes_on_in_the_clear() -> None:
    dialog = secured("optional")
    assert dialog.answer(body(PLAIN))[1].srtp is None
    dialog = secured("required")
    before = dialog.current
    with pytest.raises(MediaNotAcceptable):
        dialog.answer(body(PLAIN))
    assert dialog.current is before
    dialog.create_offer()
    with pytest.raises(MediaNotAcceptable):
        dialog.accept_answer(body(SECURE))


def test_no_repr_shows_a_key() -> None:
    dialog = secured()
    key = base64.b64encode(local_of(dialog).material).decode()
    offer = parse_sdp(dialog.create_offer())
    shown = repr((dialog, dialog.current, offer, offer.media, keys_in(bytes(offer))))
    assert key in bytes(offer).decode()
    assert key not in shown
    assert repr(local_of(dialog).material) not in shown
    assert LONG not in shown
