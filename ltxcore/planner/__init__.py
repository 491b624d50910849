"""The planner: what a run needs in memory and on disk, computed before it starts from the real model without its weights."""
