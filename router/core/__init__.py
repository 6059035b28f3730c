"""The decision: pure functions of (request, fleet, now_s, rng).

Owns what a decision is. No clock, no log, no I/O, no randomness of its own.
"""
