"""Pickers: choose one of the scored pools; randomness comes from the rng argument. One file each."""
