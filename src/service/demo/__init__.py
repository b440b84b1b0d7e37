"""``sipcore demo``: a whole telephone world in one process, to see and hear the server work."""
