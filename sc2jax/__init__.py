"""StarCoder2 and The Stack v2 in JAX: corpus, tokens, model, training, completions and scores."""

__version__ = "0.1.0"
