"""Exit codes."""

WRONG = 2
"""Something that the user can put right."""
STOPPED = 130
"""Ctrl-C or SIGTERM, as shells have the first: 128 and the number of the signal."""
