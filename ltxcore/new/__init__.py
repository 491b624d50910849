"""The files that `ltx new` writes: a run file for a mode and a model, adapted to the available clips, and the small clips of the demo."""
