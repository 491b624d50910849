"""The run file, read from TOML into attrs classes and written back, with every mistake found at once."""
