"""The run file: from TOML to attrs and back, with every mistake found at once."""
