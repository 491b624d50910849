"""The trackers that come with ltx, which receive the metrics of a run."""
