"""`ltx doctor`: raw media and encoded sets, checked before any training. Nothing is written."""
