"""The bundled recommendation ranker: made-up interactions, training, graph, facts and stored answers."""
