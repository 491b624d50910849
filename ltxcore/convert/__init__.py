"""Configurations of ltx-trainer, in YAML, to run files."""
