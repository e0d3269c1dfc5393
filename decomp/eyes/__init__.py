"""A cat's eyes, from the channels alone."""
