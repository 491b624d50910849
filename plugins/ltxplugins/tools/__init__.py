"""Tools for before and after a run, each a command of `ltx`."""
