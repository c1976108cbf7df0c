"""What Prometheus reads of each class of defects."""

from typing import Any

from prometheus_client import generate_latest

from defectline.components.serve.monitoring.metrics import Metrics


def of_classes(metrics: Metrics) -> list[str]:
    text = generate_latest(metrics.registry).decode()
    return [line for line in text.splitlines() if line.startswith("defectline_class_")]


def answer(**areas: list[int]) -> dict[str, Any]:
    """A prediction with regions of these areas of each class."""
    regions = [{"class": name, "area_px": area} for name, found in areas.items() for area in found]
    return {"regions": regions, "class_areas_px": {name: sum(found) for name, found in areas.items()}}


def test_pictures_regions_and_areas_are_counted_by_class():
    metrics = Metrics()
    metrics.serves("plates", "v1", "INT8", ("dent", "scratch"))
    metrics.by_class.see(answer(dent=[30, 12], scratch=[]))
    metrics.by_class.see(answer(dent=[5], scratch=[]))
    assert of_classes(metrics) == [
        'defectline_class_pictures_total{class="dent"} 2.0',
        'defectline_class_pictures_total{class="scratch"} 0.0',
        'defectline_class_regions_total{class="dent"} 3.0',
        'defectline_class_regions_total{class="scratch"} 0.0',
        'defectline_class_area_px_total{class="dent"} 47.0',
        'defectline_class_area_px_total{class="scratch"} 0.0',
    ]


def test_another_model_counts_its_own_classes():
    metrics = Metrics()
    metrics.serves("plates", "v1", "INT8", ("dent", "scratch"))
    metrics.by_class.see(answer(dent=[30], scratch=[9]))
    metrics.serves("plates", "v2", "INT8", ("scratch", 'a "b"\n'))
    # The last answers of the previous model come late.
    metrics.by_class.see(answer(dent=[30], scratch=[9]))
    assert [line for line in of_classes(metrics) if "regions" in line] == [
        'defectline_class_regions_total{class="scratch"} 2.0',
        'defectline_class_regions_total{class="a \\"b\\"\\n"} 0.0',
    ]


def test_a_model_of_one_class_has_no_counters_by_class():
    metrics = Metrics()
    metrics.serves("plates", "v1", "INT8", ("dent", "scratch"))
    metrics.serves("plates", "v2", "INT8", ("scratch",))
    metrics.by_class.see({"regions": [{"area_px": 9}]})
    assert of_classes(metrics) == []
    assert "defectline_class_" not in generate_latest(metrics.registry).decode()
