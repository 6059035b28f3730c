"""Whether a router stays as it was over very many requests of every kind, and what its memory is made of."""
