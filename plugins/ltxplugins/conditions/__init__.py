"""The conditions that come with ltx: what is given of a sample. Each knows the public API alone, and none another."""
