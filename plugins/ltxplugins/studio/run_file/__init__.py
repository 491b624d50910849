"""The screen of the run file: a form and its TOML, the plan, and the next batch."""
