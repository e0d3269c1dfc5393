"""From downloaded photos to training batches: sources, preparation, checks, sampling."""
