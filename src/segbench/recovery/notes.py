"""What is mended is told, in a line for each thing."""

import sys
from dataclasses import dataclass


@dataclass
class Notes:
    """Says what is mended, on stderr.

    Attributes:
        dry: nothing is to be mended, only told.
    """

    dry: bool = False

    def add(self, text: str) -> None:
        """Say a thing that was mended, or would be."""
        print(f"{'would be mended' if self.dry else 'mended'}: {text}", file=sys.stderr)
