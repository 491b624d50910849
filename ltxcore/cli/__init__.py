"""The `ltx` program, with one thin module for each command."""
