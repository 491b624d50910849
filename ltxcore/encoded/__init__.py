"""Encoded samples: their files on disk, manifests, micro-batches and the held-out split."""
