"""The plugins that come with ltx, a folder for each family: ordinary ones, each registered by its own entry point."""
