"""The quality of a model, and the way from a training run to a model folder."""
