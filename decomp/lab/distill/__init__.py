"""The test of Voss et al. on the first two layers of a network."""
