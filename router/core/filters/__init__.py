"""Filters: each keeps a pool or gives the reason it may not serve. One file each."""
