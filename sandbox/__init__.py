"""Local machines, a mirror and a stand-in engine: one more site for tries and tests.

Nothing in ``cluster/`` imports this package; to the product the sandbox is a site like any other.
"""
