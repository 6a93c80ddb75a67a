"""Exit statuses of phases on hosts, as ``lib.sh`` has them."""

NOT_WELL = 75
"""This control plane is not well, another one is to be asked."""
NO_CLUSTER = 76
"""This host is a member of no cluster."""
