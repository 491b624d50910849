"""The screen that compares samples, curves and run files."""
