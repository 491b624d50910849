"""What `ltx new` writes: the run file of a mode for a model, fitted to the clips there are, and the small clips of the demo."""
