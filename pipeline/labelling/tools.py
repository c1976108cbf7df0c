"""The labelling tools that frames can be sent to."""

import os

from defectline.components.common.errors import SettingsError
from defectline.pipeline.labelling import ToolName, cvat, label_studio
from defectline.pipeline.labelling.cvat import Cvat
from defectline.pipeline.labelling.exchange import Tool
from defectline.pipeline.labelling.label_studio import LabelStudio


def open_tool(name: ToolName, url: str, project: str) -> Tool:
    """The project of a tool's server, with the environment's token. Raises SettingsError without one."""
    variable = {"labelstudio": label_studio.KEY, "cvat": cvat.KEY}[name]
    key = os.environ.get(variable, "").strip()
    if not key:
        raise SettingsError(
            f"{variable} is not set.",
            got="no token",
            expected=f"your token of {url} in {variable}",
            fix="Copy it from your account there, and set it in the environment.",
        )
    return LabelStudio(url, project, key) if name == "labelstudio" else Cvat(url, project, key)
