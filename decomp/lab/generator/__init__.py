"""Coded and gated branches of the image generator, which none of the papers tried."""
