"""Which of the scored pools is taken. Randomness is the argument `rng`."""
