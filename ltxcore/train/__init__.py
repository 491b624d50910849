"""Train a model: plan and load a run, run the training loop, validate, and save the results."""
