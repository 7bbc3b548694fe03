"""Models in files: what can be read and written, and how numbers stand in text."""
