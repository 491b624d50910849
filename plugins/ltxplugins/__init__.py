"""The built-in conditions and strategies: ordinary plugins, each registered by its own entry point."""
