"""How good a model is, and from a training run to a model folder."""
