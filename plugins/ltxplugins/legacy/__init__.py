"""The strategies of older run files, which build the flexible one."""
