"""The strategies of older run files, each of which builds the flexible strategy."""
