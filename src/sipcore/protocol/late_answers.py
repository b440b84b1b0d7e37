"""What comes for an INVITE after its first 2xx (RFC 3261 §13.2.2.4, RFC 6026 §7.2)."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from sipcore.errors import MediaNotAcceptable
from sipcore.protocol.acknowledgement import Acknowledgement
from sipcore.protocol.dialog import Dialog
from sipcore.protocol.hangup import Unheard
from sipcore.protocol.routing import leads_to
from sipcore.protocol.uac import RequestPlan

if TYPE_CHECKING:
    from sipcore.protocol.digest import DigestClient
    from sipcore.protocol.flows import Target
    from sipcore.protocol.offer_answer import OfferAnswer
    from sipcore.protocol.security_agreement import SecurityAgreement
    from sipcore.protocol.session_context import SessionContext
    from sipcore.protocol.transaction import ClientTransaction, TransactionFailure
    from sipcore.protocol.wire import Response

__all__ = ["MAX_FORKS", "LateAnswers"]

MAX_FORKS = 16
"""Branches beyond this are ignored, ringing or answering; no proxy forks a voice bot's call further."""


class LateAnswers:
    """Copies of the 2xx that was taken, and the 2xx of other forks: each gets an ACK, a fork a BYE, too.

    They may come for 64*T1, long after a short call is over: they are none of its session's business, which is many
    times as large as what they need.

    Args:
        context: the stack.
        tag: the far end's, of the 2xx that was taken.
        ack: its ACK.
        flow_target: what the INVITE's flow was found for.
        digest: whoever answers challenges to a BYE.
        agreement: what the account has agreed on with its first proxy.
        delayed: the INVITE's offer/answer state, where it left the offer to the far end.
    """

    __slots__ = ("_acks", "_agreement", "_context", "_delayed", "_digest", "_flow_target")

    def __init__(
        self,
        context: SessionContext,
        tag: str,
        ack: Acknowledgement,
        flow_target: Target | None,
        digest: DigestClient | None,
        agreement: SecurityAgreement | None,
        delayed: OfferAnswer | None,
    ) -> None:
        self._context = context
        self._acks = {tag: ack}
        self._flow_target = flow_target
        self._digest = digest
        self._agreement = agreement
        self._delayed = delayed

    def on_response(self, transaction: ClientTransaction, response: Response, now: float) -> None:
        """A 2xx: of an INVITE that was accepted nothing else is told."""
        known = self._acks.get(response.to_tag)
        if known is not None:
            known.send()
        elif len(self._acks) < MAX_FORKS:
            self._hang_up(transaction, response, now)

    def on_failure(self, transaction: ClientTransaction, failure: TransactionFailure, now: float) -> None:
        """Nothing fails that was accepted."""

    def _hang_up(self, transaction: ClientTransaction, response: Response, now: float) -> None:
        """Another fork has answered, too: a call has one far end."""
        invite, flow = transaction.request, transaction.flow
        dialog = Dialog.from_response(invite, response, flow.transport)
        prefer = flow if leads_to(flow, dialog.next_hop, self._flow_target) else None
        ack = Acknowledgement(self._context, dialog, invite, prefer, body=self._answer(response))
        self._acks[response.to_tag] = ack
        ack.send()
        bye = RequestPlan.within(dialog, "BYE", digest=self._digest, agreement=self._agreement, flow=prefer)
        self._context.uac.send(bye, Unheard(), now)

    def _answer(self, response: Response) -> bytes:
        """The body of the ACK: an answer to the offer of the 2xx, if that made it and it can be answered."""
        if self._delayed is None or not response.body:
            return b""
        try:
            return copy.copy(self._delayed).answer(response.body)[0]
        except MediaNotAcceptable:
            return b""
