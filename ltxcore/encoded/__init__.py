"""Data: stored samples, their manifests, micro-batches, and the held-out split."""
