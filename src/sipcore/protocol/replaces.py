"""The Replaces header field: a new call takes the place of one that is there (RFC 3891).

Three parties write and read it. Who transfers puts it into the Refer-To URI (:func:`refer_target`), who is transferred
copies it from there into its INVITE (:func:`replaces_of`), who is called looks for the dialog (:func:`find_replaced`).
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from sipcore.protocol.dialog import DialogId
from sipcore.protocol.values import MalformedValue, Params

if TYPE_CHECKING:
    from sipcore.protocol.dialog import Dialog
    from sipcore.protocol.invite_session import InviteSession, LocalIdentity
    from sipcore.protocol.values import Uri
    from sipcore.protocol.wire import Request

__all__ = ["Replaces", "find_replaced", "refer_target", "replaces_of"]

_TOKEN = re.compile(r"[A-Za-z0-9\-.!%*_+`'~]+\Z")
_CALL_ID = re.compile(r"[!-~]+\Z")
_SAFE = "-_.!~*'()[]/?:+$"
"""Characters of a header in a URI that need no escape (RFC 3261 §25.1 hnv-unreserved), beside letters and digits."""
MAX_VALUE = 1024


@dataclass(frozen=True, slots=True)
class Replaces:
    """One value; the tags as seen by whoever is to find the dialog: ``to_tag`` is its own."""

    call_id: str
    to_tag: str
    from_tag: str
    early_only: bool = False

    @classmethod
    def parse(cls, text: str) -> Replaces:
        """Parses ``call-id;to-tag=…;from-tag=…[;early-only]`` (§6.1).

        Raises:
            MalformedValue: it is none.
        """
        call_id, semicolon, rest = text.strip().partition(";")
        call_id = call_id.strip()
        params = Params.parse(semicolon + rest)
        to_tag, from_tag = params.get("to-tag"), params.get("from-tag")
        # Escapes of a URI may have hidden a line break in here.
        sound = _CALL_ID.match(call_id) and _TOKEN.match(to_tag or "") and _TOKEN.match(from_tag or "")
        if len(text) > MAX_VALUE or not sound or to_tag is None or from_tag is None:
            raise MalformedValue("Replaces needs a Call-ID, a to-tag and a from-tag")
        return cls(call_id, to_tag, from_tag, "early-only" in params)

    @classmethod
    def of(cls, dialog: Dialog) -> Replaces:
        """What the far end of a dialog of ours needs to find it."""
        return cls(dialog.id.call_id, dialog.id.remote_tag, dialog.id.local_tag)

    @property
    def dialog_id(self) -> DialogId:
        """The dialog at the end where it is looked for."""
        return DialogId(self.call_id, self.to_tag, self.from_tag)

    def __str__(self) -> str:
        flag = ";early-only" if self.early_only else ""
        return f"{self.call_id};to-tag={self.to_tag};from-tag={self.from_tag}{flag}"


# -- in the URI of Refer-To ----------------------------------------------------------------------------------------


def refer_target(dialog: Dialog) -> str:
    """The URI that has a transferee call the far end of ``dialog`` in its place (RFC 5589 §7.1): the Contact, since
    an address of record could ring another telephone."""
    target = dialog.remote_target.without_headers()
    return f"{target}?Replaces={quote(str(Replaces.of(dialog)), safe=_SAFE)}"


def replaces_of(uri: Uri) -> Replaces | None:
    """The Replaces in a Refer-To URI; None where there is none.

    Raises:
        MalformedValue: there are several, or it makes no sense.
    """
    values = [value for name, value in uri.headers if unquote(name).lower() == "replaces"]
    if not values:
        return None
    if len(values) > 1:
        raise MalformedValue("several Replaces in one URI")
    return Replaces.parse(unquote(values[0]))


# -- looking for the dialog ----------------------------------------------------------------------------------------


def find_replaced(
    request: Request,
    identity: LocalIdentity,
    dialogs: Mapping[DialogId, InviteSession],
    over: Container[DialogId],
) -> InviteSession | int | None:
    """Which session an INVITE asks to replace (§3).

    Args:
        request: the INVITE.
        identity: of the account that it is for: only calls of the same account can be replaced.
        dialogs: those of this user agent.
        over: dialogs that have ended lately.

    Returns:
        None where it has no Replaces, the session, or the status to refuse it with.
    """
    lines = request.headers.get_all("Replaces")
    if not lines:
        return None
    try:
        replaces = Replaces.parse(lines[0])
    except MalformedValue:
        return 400
    if len(lines) > 1 or request.headers.get("Join") is not None:
        return 400
    session = dialogs.get(replaces.dialog_id)
    if session is None or session.identity.digest is not identity.digest:
        # Another account's call is none that this one may learn of.
        return 603 if session is None and replaces.dialog_id in over else 481
    if session.setting_up:
        # An early dialog can be taken over from the caller, who owns it, never from a callee (§3).
        return session if session.outgoing else 481
    if not session.connected:
        return 603
    return 486 if replaces.early_only else session
