"""Training: the loop, validation, and the adapters and engine that it works with."""
