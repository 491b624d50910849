"""One page about a run: curves, samples that play, and how to use what was trained."""
