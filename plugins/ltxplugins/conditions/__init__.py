"""The conditions that come with ltx, which decide what is given of a sample. Each uses the public API alone, and none uses another."""
