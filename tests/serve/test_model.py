"""The model that is served, without a server: it loads, predicts and switches."""

import asyncio
import re
import shutil
import sys
import weakref

import pytest
from bundles import make_bundle
from endpoints import expected, other_version, plate
from prometheus_client import generate_latest
from signed import write_keys

from defectline.components.common.errors import BundleError, SettingsError
from defectline.components.common.storage import checksums
from defectline.components.common.trust.signatures import sign
from defectline.components.serve.model import DefectModel, load
from defectline.components.serve.protocol.errors import ApiError
from defectline.components.serve.protocol.requests import read_raw
from defectline.components.serve.settings import ServeSettings
from defectline.components.serve.sources import Folder

PNG = plate()


@pytest.fixture
def predictor(model) -> DefectModel:
    predictor = DefectModel("plates", model)
    predictor.load()
    return predictor


def test_a_model_with_grades_answers_them(predictor, judged):
    (result,) = asyncio.run(predictor.predict(read_raw(PNG, {}))).results
    assert expected(judged, PNG)["defect_area_px"] == judged.bundle.grades.b_px
    assert result.prediction["grade"] == "B"


def test_observers_are_told_after_the_answer(predictor, judged):
    seen = []
    predictor.observers.add(seen.append)
    answered = asyncio.run(predictor.predict(read_raw(PNG, {"threshold": "0.5", "request_id": "a"})))
    predictor.observers.close()
    (observed,) = seen
    assert observed.picture == PNG
    assert observed.image.shape == (*observed.mask.shape, 1)
    assert observed.prediction == answered.results[0].prediction
    assert (observed.request_id, observed.threshold) == ("a", 0.5)
    assert observed.bundle == judged.bundle


def test_another_model_begins_with_gauges_of_its_own(model, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    served, seen = DefectModel("plates", folder), []
    served.load()
    served.observers.add(seen.append)

    def frames() -> float:
        text = generate_latest(served.metrics.registry).decode()
        (found,) = re.findall(r"^defectline_drift_frames (\S+)$", text, re.MULTILINE)
        return float(found)

    asyncio.run(served.predict(read_raw(plate(), {})))
    served.observers.close()
    assert frames() == 1
    bundle = (folder / "bundle.json").read_text()
    (folder / "bundle.json").write_text(bundle.replace('"min_area_px": ', '"min_area_px": 1'))
    checksums.seal(folder)
    asyncio.run(served.switch())
    assert frames() == 0
    # The last answer of the previous model comes late.
    (late,) = seen
    served._watch_drift(late)
    assert frames() == 0
    served._watch_drift(late._replace(bundle=served.loaded.bundle))
    assert frames() == 1


def test_a_model_that_is_replaced_leaves_memory(model, tmp_path):
    other = other_version(model, tmp_path / "other", "v20990101-000000-other")
    served = DefectModel("plates", model, ServeSettings(threads=2))
    served.load()
    assert served.loaded is not None
    previous = weakref.ref(served.loaded.network)
    served.source = Folder(other)
    asyncio.run(served.switch())
    assert served.loaded.bundle.version == "v20990101-000000-other"
    # At once: among what is frozen at the start no garbage is collected.
    assert previous() is None


def test_an_engine_that_is_not_installed_or_cannot_read_its_file(tmp_path, monkeypatch):
    folder = tmp_path / "model"
    make_bundle(folder)
    with pytest.raises(BundleError, match=r"onnx/model\.onnx cannot be loaded"):
        load(folder, ServeSettings(engine="onnxruntime"))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(SettingsError, match="ONNX Runtime is not installed"):
        load(folder, ServeSettings(engine="onnxruntime"))


def test_only_its_own_names_and_version_are_served_and_only_while_it_is_ready(predictor, judged):
    for name, version in (("other", None), ("plates", "v1")):
        with pytest.raises(ApiError) as refused:
            predictor.check(name, version)
        assert refused.value.code == "not_found"
    assert predictor.check("plates", judged.bundle.version) is predictor.loaded
    predictor.check_ready("plates")
    predictor.draining = True
    with pytest.raises(ApiError, match="shutting down") as refused:
        predictor.check_ready("plates")
    assert refused.value.code == "not_ready"
    assert not asyncio.run(predictor.healthy())
    # What has arrived is answered all the same.
    assert predictor.check("plates") is predictor.loaded


def test_a_key_that_is_taken_away_takes_its_model_along(model, tmp_path):
    """What it signed serves no more, and serves again once the key is back."""
    folder, keys = tmp_path / "model", tmp_path / "keys"
    shutil.copytree(model, folder)
    sign(folder, write_keys(keys, "old"))
    write_keys(keys, "new")
    served = DefectModel("plates", Folder(folder, [str(keys)]), ServeSettings(threads=2))
    served.load()
    state = served.source.state()
    assert served.not_ready_reason() == ""
    taken = (keys / "old.pub").rename(tmp_path / "old.pub")
    # Which a look for another model sees.
    assert served.source.state() != state
    asyncio.run(served.switch())
    assert served.not_ready_reason() == "The key that signed the model is not trusted any more."
    taken.rename(keys / "old.pub")
    asyncio.run(served.switch())
    assert served.not_ready_reason() == ""
    # Where no key can be read, nobody took this one away.
    shutil.rmtree(keys)
    asyncio.run(served.switch())
    assert served.not_ready_reason() == ""
