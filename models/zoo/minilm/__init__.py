"""The bundled sentence embedding: its graph, its facts and its stored answers. Weights come from a package."""
