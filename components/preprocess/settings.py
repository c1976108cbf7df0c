"""Every setting of the preprocess step."""

from pydantic import Field

from defectline.components.common.images.imaging import ImagingSettings
from defectline.components.common.settings import select


class PreprocessSettings(ImagingSettings):
    """How pictures become the network's input, and which parts of them are trained on."""

    empty_tiles: float = Field(
        default=0.25,
        ge=0,
        le=1,
        description="With tile, the share of the tiles without a defect to train on.",
    )
    """Good surface is plentiful."""

    @property
    def imaging(self) -> ImagingSettings:
        """What inference needs as well."""
        return ImagingSettings(**select(ImagingSettings, self))
