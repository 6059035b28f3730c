"""The bundled MLP for measuring: its graph, its facts and its stored answers. Weights come from a seed."""
