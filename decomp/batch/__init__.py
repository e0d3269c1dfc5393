"""Any work over a tree of photos, in several processes."""
