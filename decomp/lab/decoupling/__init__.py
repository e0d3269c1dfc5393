"""Dynamic network decoupling (Li et al., 2020): a gate picks, for each image, which filters run."""
