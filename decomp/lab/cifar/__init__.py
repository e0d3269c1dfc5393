"""CIFAR-10 and the networks that are trained on it."""
