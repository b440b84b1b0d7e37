"""Replaces values and the URIs that carry them (RFC 3891)."""

from __future__ import annotations

import pytest

from sipcore.protocol.dialog import Dialog, DialogId
from sipcore.protocol.replaces import Replaces, refer_target, replaces_of
from sipcore.protocol.values import MalformedValue, Uri


def _dialog(call_id: str, target: str) -> Dialog:
    return Dialog(
        id=DialogId(call_id, "ours", "theirs"),
        local="",
        remote="",
        remote_target=Uri.parse(target),
        route_set=(),
        local_cseq=1,
        remote_cseq=None,
        transport="udp",
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (
            "425928@bobster.example.org;to-tag=7743;from-tag=6472",
            Replaces("425928@bobster.example.org", "7743", "6472"),
        ),
        ("98asjd8@x;from-tag=1;to-tag=2;early-only", Replaces("98asjd8@x", "2", "1", True)),
        (" a ; To-Tag = 2 ; from-tag=1; x=y", Replaces("a", "2", "1")),
    ],
)
def test_read(text: str, value: Replaces) -> None:
    """§6.1, examples of §6.2."""
    assert Replaces.parse(text) == value
    assert Replaces.parse(str(value)) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        ";to-tag=1;from-tag=2",
        "a;to-tag=1",
        "a;from-tag=1",
        "a;to-tag=;from-tag=1",
        "a b;to-tag=1;from-tag=2",
        "a\r\nEvil: x;to-tag=1;from-tag=2",
        "a;to-tag=1\r\nEvil: x;from-tag=2",
        'a;to-tag="1 2";from-tag=2',
        "a" * 2000 + ";to-tag=1;from-tag=2",
    ],
)
def test_what_is_none(text: str) -> None:
    with pytest.raises(MalformedValue):
        Replaces.parse(text)


def test_the_uri_of_a_refer_is_escaped() -> None:
    """RFC 3261 §19.1.1 and RFC 5589 §7.1: ``;``, ``=`` and ``@`` would end the header."""
    target = refer_target(_dialog("a!b@host", "sip:carol@192.0.2.3:5070;transport=tcp?Subject=x"))
    assert target == ("sip:carol@192.0.2.3:5070;transport=tcp?Replaces=a!b%40host%3Bto-tag%3Dtheirs%3Bfrom-tag%3Dours")
    assert replaces_of(Uri.parse(target)) == Replaces("a!b@host", "theirs", "ours")


def test_each_end_sees_its_own_tag_as_the_to_tag() -> None:
    """§3: the to-tag is compared to the local tag of who is asked."""
    dialog = _dialog("c", "sip:carol@192.0.2.3")
    assert Replaces.of(dialog).dialog_id == DialogId("c", local_tag="theirs", remote_tag="ours")


@pytest.mark.parametrize(
    "uri",
    [
        "sip:c@h?Replaces=nonsense",
        "sip:c@h?Replaces=a%3Bto-tag%3D1%3Bfrom-tag%3D2&replaces=b%3Bto-tag%3D1%3Bfrom-tag%3D2",
        "sip:c@h?Replaces=a%3Bto-tag%3D1%0d%0aEvil:%20x%3Bfrom-tag%3D2",
    ],
)
def test_a_uri_that_cannot_be_followed(uri: str) -> None:
    with pytest.raises(MalformedValue):
        replaces_of(Uri.parse(uri))


def test_a_uri_without_replaces() -> None:
    assert replaces_of(Uri.parse("sip:c@h?Subject=x")) is None
