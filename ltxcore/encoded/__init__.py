"""Encoded samples: files on disk, their manifests, micro-batches, and the held-out split."""
