"""Every setting of a training run, in one place, saved beside the model."""

from pydantic import BaseModel, ConfigDict, Field


class TrainSettings(BaseModel):
    """Defaults are for tens to hundreds of pictures from random weights."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(default=60, ge=1)
    batch_size: int = Field(default=4, ge=1)
    seed: int = Field(default=0, ge=0)
    encoder_weights: str = "none"
    """`none`, `imagenet`, or a path or URI of a weights file, with `#sha256=…` to check it."""
    learning_rate: float = Field(default=2e-3, gt=0)
    """Highest rate of the cosine schedule, after a warm-up over the first tenth of the steps."""
    weight_decay: float = Field(default=1e-4, ge=0)
    batch_norm_momentum: float = Field(default=0.9, gt=0, lt=1)
    """Keras' MobileNetV2 has 0.999: over a few hundred steps its moving statistics never arrive, and a
    network that trains well predicts nothing."""
    patience: int = Field(default=30, ge=1)
    """Epochs without a better validation IoU before training stops."""
    quantize: bool = True
    """Export in INT8 as well; evaluate serves it where it loses nothing on validation pictures."""
