"""The planner, which computes the memory and disk space that a run needs before it starts, from the real model without its weights."""
