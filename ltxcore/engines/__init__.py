"""Engines: how a model is run and updated, in one process or in many."""
