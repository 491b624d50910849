"""The conditions that come with ltx, which decide what is given in a sample. Each condition uses only the public API,
and no condition uses another.
"""
