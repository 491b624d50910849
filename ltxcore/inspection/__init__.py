"""Show what the model sees in the first steps of a run: as tables, as a picture, and as tensors in a file."""
