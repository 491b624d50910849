"""Trackers: where the numbers of a run go."""
