"""Runs before and beside their training: what a run file asks for, all that can be wrong with it, and the folder that it writes."""
