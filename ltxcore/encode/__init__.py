"""Preprocessing: from a dataset of raw media to encoded samples."""
