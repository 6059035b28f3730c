"""Pools that are other servers: what a replica forwards, how it finds out whether the other end can take it.

Routers see such a replica as any other; which of them is asked is not decided here.
"""
