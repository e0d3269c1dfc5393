"""From photos as downloaded to training batches: sources, preparing, checking, sampling."""
