"""The screen of the runs: the queue, curves, samples and logs."""
