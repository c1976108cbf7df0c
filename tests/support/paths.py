"""Where things are."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""Of the repository."""
SUPPORT = ROOT / "tests/support"
SHARED = ROOT.parent / "shared"
"""Test material beside the repository; tests skip, saying so, where it is missing."""
