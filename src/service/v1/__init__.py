"""``sipcore.v1``: the second gRPC service of the server, for what ``ondewo.sip.Sip`` cannot say."""
