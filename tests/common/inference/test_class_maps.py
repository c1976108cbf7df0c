"""How likely each class is, where in a picture."""

import numpy as np
import pytest
from kinds import CLASSES, draw_kinds, write_kinds_network

from defectline.components.common.errors import BundleError
from defectline.components.common.images.imaging import ImagingSettings
from defectline.components.common.inference import class_maps
from defectline.components.common.inference.class_maps import Collector, of_output
from defectline.components.common.inference.inspection import answer, judge, to_prediction
from defectline.components.common.inference.network import Network


def test_a_region_is_of_the_class_with_the_largest_mean_probability():
    score_map = np.zeros((20, 30), np.uint16)
    score_map[2:6, 2:10], score_map[10:14, 5:25] = 900, 700
    likely = np.zeros((20, 30, 3), np.float32)
    likely[2:6, 2:10, 0], likely[2:6, 2:10, 2] = 0.3, 0.6
    likely[10:14, 5:25, 1], likely[10:14, 5:8, 2] = 0.5, 1.0  # the highest is not the largest mean
    maps = of_output(CLASSES, likely, 20, 30)
    found = answer(score_map, 0.5, 4, maps)
    prediction = to_prediction(found)
    large, small = prediction["regions"]
    assert (large["class"], large["class_probability"]) == ("scratch", 0.5)
    assert (small["class"], small["class_probability"]) == ("stain", 0.6)
    assert prediction["class_areas_px"] == {"dent": 0, "scratch": 80, "stain": 32}
    assert set(np.unique(found.mask)) == {0, 2, 3}
    plain = answer(score_map, 0.5, 4)
    assert (plain.verdict, plain.score) == (found.verdict, found.score)
    assert "class" not in to_prediction(plain)["regions"][0]


@pytest.mark.parametrize("step", [1, 2, 3])
def test_large_frames_keep_their_maps_smaller(monkeypatch, step):
    height, width = 37, 53
    likely = np.random.default_rng(0).random((height, width, 3)).astype(np.float32)
    monkeypatch.setattr(class_maps, "MOST_BYTES", -(-2 * 3 * height * width // step**2))
    collector = Collector(CLASSES, height, width)
    for top in range(0, height, 5):
        collector.see(likely[top : top + 5])
    maps = collector.maps()
    assert maps.levels.nbytes <= class_maps.MOST_BYTES * 1.2
    labels = np.zeros((height, width), np.int32)
    labels[6:24, 12:30], labels[30:36, 0:48] = 1, 2
    means = maps.means(labels[3:, :50], 3, 0, 2)
    by_hand = [likely[labels == number].mean(axis=0) for number in (1, 2)]
    np.testing.assert_allclose(means, by_hand, atol=1e-3)


@pytest.mark.parametrize("tile", [False, True])
def test_a_network_of_several_classes_is_judged_on_openvino(tmp_path, tile):
    write_kinds_network(tmp_path / "model.xml")
    imaging = ImagingSettings(image_size=64, tile=tile)
    network = Network(tmp_path / "model.xml", imaging, classes=CLASSES)
    image, truth = draw_kinds([1, 2, 3], 0, size=150 if tile else 64)
    found = judge(network.maps_of(image[..., None]), 0.5, 20)
    np.testing.assert_array_equal(found.mask, truth)
    regions = sorted(found.regions, key=lambda region: region.bbox[1])
    assert [found.classes[region.kind - 1] for region in regions] == [*CLASSES]
    assert all(region.probability > 0.9 for region in regions)
    with pytest.raises(BundleError, match="64×64×4"):
        Network(tmp_path / "model.xml", imaging)
