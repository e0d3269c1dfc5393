"""Sections 4 to 6 of the paper: a toy, CIFAR-10, and the channels of a trained model."""
