"""What `ltx new` writes: a run file for a mode and a model, fitted to the available clips, and the small clips of the demo."""
