"""The way in from outside, by host name."""
