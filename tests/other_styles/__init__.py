"""Right answers in other styles than the solutions: the checks have to accept them.

The name of a function begins with that of its exercise's function; the rest is its style.
"""
