"""The plugins that come with ltx, a folder for each family; they are ordinary plugins, each registered by its own entry point."""
