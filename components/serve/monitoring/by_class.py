"""What was found of each class of defects, where the model that serves tells several apart."""

from collections.abc import Iterator, Mapping, Sequence
from threading import Lock
from typing import Any

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

COUNTERS = {
    "defectline_class_pictures": "Pictures in which a region of the class was found.",
    "defectline_class_regions": "Regions of the class that were found.",
    "defectline_class_area_px": "Pixels of the regions of the class, of the incoming pictures.",
}


class ByClass(Collector):
    """Counters by class, which say nothing while the model has one; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._counts: dict[str, list[int]] = {}
        """In the order of COUNTERS."""

    def serves(self, classes: Sequence[str]) -> None:
        """Count these from now on, from 0 or, what the model before had as well, where it was: so there are
        never more series than a model has classes."""
        names = classes if len(classes) > 1 else ()
        with self._lock:
            self._counts = {name: self._counts.get(name, [0] * len(COUNTERS)) for name in names}

    def see(self, prediction: Mapping[str, Any]) -> None:
        """Count one answer with all its regions."""
        of_regions = [region.get("class") for region in prediction["regions"]]
        with self._lock:
            for name, area in prediction.get("class_areas_px", {}).items():
                # The last answers of a previous model may name others.
                if area and name in self._counts:
                    for index, more in enumerate((1, of_regions.count(name), area)):
                        self._counts[name][index] += more

    def collect(self) -> Iterator[Metric]:
        """The counters as they are when Prometheus asks for them."""
        with self._lock:
            counts = {name: list(values) for name, values in self._counts.items()}
        for index, (counter, says) in enumerate(COUNTERS.items() if counts else ()):
            family = CounterMetricFamily(counter, says, labels=["class"])
            for name, values in counts.items():
                family.add_metric([name], values[index])
            yield family
