"""Models: the backbone, its checkpoints, and the LoRA files made from it."""
