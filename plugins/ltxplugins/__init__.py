"""The plugins that come with ltx, with a folder for each kind. They are ordinary plugins, each registered by an entry
point of its own.
"""
