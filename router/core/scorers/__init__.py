"""Scorers: each gives a pool a score in [0, 1]; outside is an error of the scorer. One file each."""
