"""Every setting of the preprocess step."""

from pydantic import Field

from defectline.components.common.images.imaging import ImagingSettings


class PreprocessSettings(ImagingSettings):
    """How pictures become the network's input, and which parts of them are trained on."""

    empty_tiles: float = Field(default=0.25, ge=0, le=1)
    """With `tile`, the share of the tiles without a defect that are kept: good surface is plentiful."""

    @property
    def imaging(self) -> ImagingSettings:
        """What inference needs as well."""
        return ImagingSettings(**self.model_dump(exclude={"empty_tiles"}))
