"""The stack against programs that others wrote: Kamailio, baresip and SIPp as Debian ships them."""
