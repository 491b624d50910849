"""The strategies of older run files. Each of them builds the flexible strategy."""
