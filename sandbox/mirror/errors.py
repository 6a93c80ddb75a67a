"""The one error of the mirror."""

from __future__ import annotations


class MirrorError(RuntimeError):
    """A part could not be built or served; the message names the part and what to do."""
