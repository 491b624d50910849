"""Programs around a run, each of them a command of `ltx`."""
