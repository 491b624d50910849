"""Training: the plan, the loop, the held-out loss and the checkpoints of a run."""
