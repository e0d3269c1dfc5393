"""Networks that tell photos from re-generated pictures."""
