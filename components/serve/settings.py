"""Settings of the server, which are its options on the command line; docstrings are the help."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from defectline.components.common.images.reading import MAX_PIXELS
from defectline.components.common.inference.engine import EngineName
from defectline.components.serve.monitoring.drift import LEAST_FRAMES

Guarded = Literal["health", "metrics"]
"""What needs no token unless told, since probes and Prometheus ask for it."""


class ReviewSettings(BaseModel):
    """Which frames are kept for review."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    review_margin: float = Field(default=0.02, ge=0, le=1)
    """keep frames where at most this share of the validation images with their verdict was as doubtful"""
    review_share: float = Field(default=0.005, ge=0, le=1)
    """share of the other frames that is kept, chosen by chance"""
    review_per_day: int = Field(default=200, ge=1, le=100_000)
    """most frames of a day in the store, its best; replicas that write at once may exceed it a little"""


class ServeSettings(ReviewSettings):
    engine: EngineName = "openvino"
    """onnxruntime for NVIDIA GPUs, always in float32"""
    threads: int = Field(default=0, ge=0, le=256)
    """processors to use; 0: all"""
    queue: int = Field(default=32, ge=0, le=10_000)
    """requests that may wait for a thread"""
    deadline_ms: float = Field(default=5000, ge=1, le=600_000)
    """longest wait in the queue; then HTTP 503"""
    max_mb: float = Field(default=64, ge=0.001, le=1000)
    """largest body, in megabytes"""
    max_megapixels: float = Field(default=MAX_PIXELS / 1e6, ge=0.001, le=MAX_PIXELS / 1e6)
    """largest picture, in megapixels"""
    drain_ms: float = Field(default=1000, ge=0, le=600_000)
    """after SIGTERM, how long requests are still answered while readiness says no"""
    watch: float = Field(default=0, ge=0, le=86_400)
    """seconds from one look for another model to the next; 0: look only on SIGHUP"""
    rate: float = Field(default=0, ge=0, le=1_000_000)
    """requests with pictures a second from one client, which is a token or else an address; 0: any number"""
    drift_window: int = Field(default=1000, ge=LEAST_FRAMES, le=100_000)
    """drift is measured over so many of the last frames"""

    @property
    def body_bytes(self) -> int:
        return int(self.max_mb * 1e6)

    @property
    def max_pixels(self) -> int:
        return int(self.max_megapixels * 1e6)
