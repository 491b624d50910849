"""Runs apart from their training: the plan that follows from a run file, the checks on it, and the folder that a run writes."""
