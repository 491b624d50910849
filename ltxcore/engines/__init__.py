"""Engines, which run and update a model in one process or in many."""
