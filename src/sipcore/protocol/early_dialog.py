"""One branch of a call that rings: its dialog, its media, its reliable responses (RFC 3261 §12.1, RFC 3262 §4)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sipcore.errors import MediaNotAcceptable
from sipcore.protocol.session_context import SDP

if TYPE_CHECKING:
    from sipcore.protocol.dialog import Dialog
    from sipcore.protocol.offer_answer import NegotiatedMedia, OfferAnswer
    from sipcore.protocol.wire import Response

__all__ = ["EarlyDialog", "reliable_number"]


@dataclass(slots=True, eq=False)
class EarlyDialog:
    """An early dialog as the caller sees it. Each branch of a forked call negotiates for itself."""

    dialog: Dialog
    negotiation: OfferAnswer
    """The INVITE's offer, as this branch goes on with it."""
    settled: bool = False
    """Offer and answer are complete: what the 2xx brings is no second answer (§13.2.1)."""
    _preview: bytes = field(default=b"", repr=False)
    """The newest SDP of an unreliable response."""
    _number: int = 0
    """RSeq of the newest reliable response; 0 before the first."""

    def expects(self, number: int) -> bool:
        """Whether a reliable response is the next one (RFC 3262 §4).

        One before is a repetition, whose PRACK is on its way. One after it shows that a response is missing: without
        a PRACK it will come again, after the missing one.
        """
        if self._number and number != self._number + 1:
            return False
        self._number = number
        return True

    def take_reliable(self, response: Response, *, delayed: bool) -> tuple[bytes, NegotiatedMedia | None]:
        """Takes the session description of a reliable response for good.

        Args:
            delayed: our INVITE had no offer, so this is the far end's (RFC 3262 §5).

        Returns:
            The body for the PRACK, and the media where they are known now.
        """
        if self.settled or not response.body or response.content_type != SDP:
            return b"", None
        try:
            if delayed:
                body, media = self.negotiation.answer(response.body)
            else:
                body, media = b"", self.negotiation.accept_answer(response.body)
        except MediaNotAcceptable:
            return b"", None
        self.settled = True
        return body, media

    def final_answer(self, response: Response) -> bytes:
        """The SDP of the 2xx; one that has none repeats what its 18x said (§13.2.1: the first one counts)."""
        return response.body or self._preview

    def remember(self, preview: bytes) -> None:
        """The SDP of an unreliable response, which was of use."""
        self._preview = preview


def reliable_number(response: Response) -> int | None:
    """RSeq of a provisional response that wants a PRACK (RFC 3262 §7.1); None where it wants none."""
    text = (response.headers.get("RSeq") or "").strip()
    reliable = "100rel" in (token.lower() for token in response.list_of("Require"))
    if not reliable or not text.isascii() or not text.isdigit() or len(text) > 10:
        return None
    return int(text) or None
