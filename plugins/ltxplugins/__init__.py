"""What comes with ltx as plugins, a folder a family: ordinary ones, each registered by its own entry point."""
