"""Ratios, side by side in one run, against the best hand-written way."""
