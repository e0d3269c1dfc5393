"""More edits of a face: channels of another photo in it, and its relief."""
