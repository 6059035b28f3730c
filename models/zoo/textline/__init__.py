"""The bundled vision model: which way up a line of text is. Weights come from a package."""
