"""Networks that distinguish photos from re-generated pictures."""
