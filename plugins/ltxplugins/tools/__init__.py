"""Programs around a run, each a command of `ltx`."""
