"""For those who do more with a face than slide it: another photo's channels in it, and its relief."""
