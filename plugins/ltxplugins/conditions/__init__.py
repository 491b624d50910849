"""The conditions that come with ltx, which decide what is given in a sample. Each uses only the public API, and none uses another."""
