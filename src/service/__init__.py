"""The gRPC service ``ondewo.sip.Sip`` over :mod:`sipcore`."""
