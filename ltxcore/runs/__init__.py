"""Everything about runs except training: the plan of a run, the checks on the plan, and the folder that a run writes."""
