"""Which network is served: INT8 where it loses nothing on validation pictures, in rule and in bundle."""

import json

import pytest
from bundles import make_bundle
from counts import counted
from networks import LIMITS, Judged, judge_model

from defectline.components.common.bundle import GPU_NETWORK, copy_served, publish_folder, read_bundle
from defectline.components.common.storage import checksums, open_storage
from defectline.components.evaluate.metrics import Count
from defectline.components.evaluate.step import evaluate
from defectline.components.evaluate.validation.precision import select_precision


def _counts(called: str = "OK NG", tp: int = 900, fp: int = 50, fn: int = 50) -> list[Count]:
    """A good picture and a defective one with what they were called; the pixels are the latter's."""
    good, bad = called.split()
    return [counted("OK", good, id="OK/1"), counted("NG", bad, tp=tp, fp=fp, fn=fn, id="NG/1")]


@pytest.mark.parametrize(
    ("whole", "small", "lost"),
    [
        (_counts(), _counts(), ""),
        (_counts(), _counts(tp=892), ""),
        (_counts(), _counts(tp=940), ""),
        (_counts("NG OK"), _counts(), ""),
        (_counts(), _counts(tp=880, fp=60, fn=60), "IoU 0.880 for 0.900"),
        (_counts(), _counts("OK OK"), "the verdict of NG/1"),
        (_counts(), _counts("NG NG"), "the verdict of OK/1"),
        # As many are wrong, but another one.
        (_counts("NG NG"), _counts("OK OK"), "the verdict of NG/1"),
        (_counts(), _counts("NG OK", 0, 0, 0), "the verdict of OK/1, NG/1, IoU 0.000 for 0.900"),
        (5 * _counts(), 5 * _counts("OK OK"), "the verdict of NG/1, NG/1, NG/1 and 2 more"),
        # Only good pictures, and nothing found on them: there is no IoU.
        (_counts()[:1], _counts()[:1], ""),
        (_counts()[:1], _counts("NG NG")[:1], "the verdict of OK/1"),
    ],
)
def test_int8_is_served_only_where_it_loses_nothing(whole, small, lost):
    served, reason = select_precision({"openvino": whole, "openvino_int8": small})
    assert served == ("openvino" if lost else "openvino_int8")
    assert lost in reason
    assert ("loses nothing" in reason) == (not lost)


def test_a_model_that_was_not_quantized():
    assert select_precision({"openvino": _counts()}) == ("openvino", "the model was not quantized")


# The step


@pytest.fixture(scope="module")
def judged(tmp_path_factory) -> Judged:
    return judge_model(tmp_path_factory.mktemp("judged") / "one", int8_cut=40)


def test_the_bundle_says_what_is_served_and_why(judged):
    bundle = judged.bundle
    assert (bundle.served, bundle.precision) == ("openvino_int8", "INT8")
    assert bundle.network == "openvino_int8/model.xml"
    metrics = json.loads((judged.store / "runs/one/metrics.json").read_text())
    assert (metrics["served"], metrics["served_reason"]) == (bundle.served, bundle.served_reason)
    assert "INT8: loses nothing on 8 validation pictures" in judged.report.read_text()
    for network in ("openvino", "openvino_int8"):
        assert (judged.folder / network / "model.bin").stat().st_size > 0


@pytest.mark.parametrize("better", ["float32", "INT8"])
def test_everything_afterwards_uses_the_chosen_network(tmp_path, better):
    """The other one finds nothing: with it, no test picture would be NG."""
    cuts = {"cut": 40, "int8_cut": 1000} if better == "float32" else {"cut": 1000, "int8_cut": 40}
    other = judge_model(tmp_path / "other", **cuts)
    assert other.bundle.precision == better
    assert other.result.passed
    assert other.bundle.metrics["test"]["escape"] == other.bundle.metrics["validation"]["escape"] == 0
    assert {golden.verdict for golden in other.bundle.golden} == {"OK", "NG"}
    if better == "float32":
        assert "worse on validation pictures: the verdict of NG" in other.bundle.served_reason


def test_a_champion_is_scored_by_the_network_that_it_serves(judged, tmp_path):
    """Its network in float32 finds nothing any more."""
    champion = judge_model(tmp_path / "champion", cut=1000, int8_cut=40)
    version = champion.bundle.version
    publish_folder(champion.folder, open_storage(str(judged.store)), f"models/defects/{version}")
    files = (judged.model, tmp_path / "bundle", tmp_path / "report.html")
    evaluate(str(judged.store), judged.snapshot, *files, LIMITS, "second", champion=version)
    metrics = json.loads((judged.store / "runs/second/metrics.json").read_text())
    assert metrics["champion_test"]["escape"] == 0
    assert metrics["champion_test"]["iou"] > 0.9


def test_only_the_served_network_is_copied(judged, tmp_path):
    copy_served(judged.folder, tmp_path / "model")
    names = {p.relative_to(tmp_path / "model").as_posix() for p in (tmp_path / "model").rglob("*.*")}
    files = {"bundle.json", "novelty.npz", "openvino_int8/model.xml", "openvino_int8/model.bin", GPU_NETWORK}
    assert names == files
    assert read_bundle(tmp_path / "model") == judged.bundle


def test_a_bundle_of_an_older_release_serves_float32(tmp_path):
    make_bundle(tmp_path / "old")
    content = json.loads((tmp_path / "old/bundle.json").read_text())
    del content["served"], content["served_reason"]
    (tmp_path / "old/bundle.json").write_text(json.dumps(content))
    checksums.seal(tmp_path / "old")
    bundle = read_bundle(tmp_path / "old")
    assert (bundle.served, bundle.precision) == ("openvino", "float32")
    copy_served(tmp_path / "old", tmp_path / "model")
    assert (tmp_path / "model/openvino/model.xml").exists()
