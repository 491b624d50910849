"""The trackers that come with ltx, which take the numbers of a run."""
