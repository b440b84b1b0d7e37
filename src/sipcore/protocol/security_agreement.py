"""What an account and the first hop of its requests have agreed on for the security of media: RFC 3329 with the
``mediasec`` parameter (draft-dawes-sipcore-mediasec-parameter, 3GPP TS 24.229 §5.1.1, TS 33.328).

REGISTER says ``Security-Client: sdes-srtp;mediasec``; the server answers with a list of its own, Security-Server, which
each later request repeats as Security-Verify: nobody on the way can have made it shorter unseen. Each of these requests
requires that the first hop knows what is meant.

Left out: mechanisms for the signalling itself (tls, ipsec-3gpp, digest): that is what the transport of the account is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sipcore.protocol.wire import Request, Response

__all__ = ["END_TO_ACCESS_EDGE", "SecurityAgreement"]

END_TO_ACCESS_EDGE = ("3ge2ae", "requested")
"""The attribute of an offer whose audio is encrypted as far as the network's edge (TS 33.328)."""
MECHANISM = "sdes-srtp;mediasec"
MOST = 16
"""Mechanisms of a server that are remembered; networks have three."""
LONGEST = 200
"""Characters of one."""


class SecurityAgreement:
    """Of one account, for as long as the program runs."""

    __slots__ = ("_server",)

    def __init__(self) -> None:
        self._server: tuple[str, ...] = ()

    def apply(self, request: Request) -> None:
        """Puts into a request what belongs there; into one that is sent again, what is known by now."""
        offers = request.method == "REGISTER"
        if not offers and not self._server:
            return
        for name in ("Security-Client", "Security-Verify"):
            request.headers.remove(name)
        if offers:
            request.headers.add("Security-Client", MECHANISM)
        for mechanism in self._server:
            request.headers.add("Security-Verify", mechanism)
        for name in ("Require", "Proxy-Require"):
            tags = request.list_of(name)
            if "mediasec" not in tags:
                request.headers.set(name, ", ".join((*tags, "mediasec")))

    def learn(self, response: Response) -> None:
        """The server's list, of a challenge, a 2xx or a 494; the newest counts, and is repeated as it is written."""
        listed = response.list_of("Security-Server")
        if listed and len(listed) <= MOST and all(len(each) <= LONGEST for each in listed):
            self._server = tuple(listed)
