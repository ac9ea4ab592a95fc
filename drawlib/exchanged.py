"""What of the library is exchanged at present: mistakes that are planted on purpose.

`drawlib.mistakes` fills the list; what keeps a compiled copy of a function looks into
it, since the copy would not have the mistake, or would not lose it again.
"""

from __future__ import annotations

from collections.abc import Hashable

__all__ = ["EXCHANGED"]

EXCHANGED: list[Hashable] = []
