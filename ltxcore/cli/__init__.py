"""The `ltx` program: one thin module a command."""
