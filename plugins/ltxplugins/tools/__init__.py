"""Tools to use before and after a run. Each tool is a command of `ltx`."""
