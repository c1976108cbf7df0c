"""Frames for review in tools that people label with."""

from typing import Literal

ToolName = Literal["labelstudio", "cvat"]
