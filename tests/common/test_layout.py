"""Every key of a store is written in one module, and read back by it."""

import ast
import re
from collections.abc import Iterator

import pytest
from paths import ROOT

from defectline.components.common import layout
from defectline.components.common.layout import FrameKey, fold_run

PLACES = re.compile("(snapshots|models|serving|runs|checkpoints|pretrained|review)/")
NAMES = re.compile(r"/?((head|snapshot|current|gated|outcome|gate|metrics|counts)\.json|index\.parquet)")
VERSION = "v20260102-030405-abcdef"
FRAME = "0" * 32


def texts(source: str) -> Iterator[str]:
    """The strings of a module, without docstrings; of an f-string its parts."""
    tree = ast.parse(source)
    said = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in said:
            yield node.value


def keys(source: str) -> list[str]:
    """The strings that are keys of a store, or begin so."""
    return [text for text in texts(source) if PLACES.match(text) or NAMES.fullmatch(text)]


def test_keys_of_a_store_are_found():
    source = '"""runs/1"""\na = f"runs/{run}/outcome.json"\nb = "a sentence about runs/"\nc = "head.json"'
    assert set(keys(source)) == {"runs/", "/outcome.json", "head.json"}


def test_no_other_module_writes_a_key_of_a_store():
    found = {
        path.relative_to(ROOT).as_posix(): keys(path.read_text())
        for folder in ("components", "pipeline", "client", "cli")
        for path in (ROOT / folder).rglob("*.py")
    }
    assert {path for path, spelt in found.items() if spelt} == {"components/common/layout.py"}, found


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (layout.snapshot_key("0a", layout.INDEX), "snapshots/0a/index.parquet"),
        (layout.pack_key("0b"), "snapshots/packs/0b.tar"),
        (layout.journal_prefix("s3://plates"), "snapshots/journal/86f4ca074cbe6847/"),
        (layout.model_folder("m", VERSION), f"models/m/{VERSION}"),
        (layout.champion_key("m"), "models/m/current.json"),
        (layout.gate_key("m"), "models/m/gated.json"),
        (layout.serving_folder("m", VERSION), f"serving/m/{VERSION}"),
        (layout.deployed_prefix("m"), "serving/m/deployed/"),
        (layout.deployed_key("m", "shop", VERSION), f"serving/m/deployed/shop/{VERSION}.json"),
        (layout.unfinished_prefix("m"), "serving/m/unfinished/"),
        (layout.unfinished_key("m", "shop", "0c"), "serving/m/unfinished/shop/0c.json"),
        (layout.run_key("one", layout.OUTCOME), "runs/one/outcome.json"),
        (layout.checkpoint_prefix("0d"), "checkpoints/0d/"),
        (layout.pretrained_key("0e"), "pretrained/0e.keras"),
        (layout.review_prefix("m"), "review/m/"),
        (FrameKey("m", "2026-01-02", FRAME).frame, f"review/m/2026-01-02/{FRAME}.json"),
        (FrameKey("m", "2026-01-02", FRAME).decision, f"review/m/2026-01-02/{FRAME}.decision.json"),
    ],
)
def test_keys_are_those_of_the_stores_that_are_out_there(key, expected):
    assert key == expected


@pytest.mark.parametrize(
    ("key", "version"),
    [
        (f"models/m/{VERSION}/bundle.json", ("m", VERSION)),
        (f"serving/m/{VERSION}/openvino/model.xml", ("m", VERSION)),
        (f"models/m/{VERSION}", None),
        ("models/m/current.json", None),
        ("models/m/v1/bundle.json", None),
        (f"serving/m/deployed/shop/{VERSION}.json", None),
        (f"runs/m/{VERSION}/bundle.json", None),
    ],
)
def test_versions_of_keys(key, version):
    assert layout.parse_version(key) == version


def test_a_whole_version_and_what_is_none():
    assert layout.is_version("v20261130-085400-26656f")
    assert not any(
        map(layout.is_version, ("", "v2026", "v20261130-085400-26656f/", "v20261130-085400-26656g"))
    )


@pytest.mark.parametrize(
    ("key", "snapshot"),
    [
        ("snapshots/0a/index.parquet", "0a"),
        ("snapshots/0a/pictures.html", "0a"),
        ("snapshots/head.json", None),
        ("snapshots/packs/0b.tar", None),
        ("snapshots/journal/0c/0b.parquet", None),
        ("runs/0a/index.parquet", None),
    ],
)
def test_snapshots_of_keys(key, snapshot):
    assert layout.parse_snapshot(key) == snapshot


@pytest.mark.parametrize(
    ("key", "frame"),
    [
        (f"review/m/2026-01-02/{FRAME}.json", FrameKey("m", "2026-01-02", FRAME)),
        (f"review/m/2026-01-02/{FRAME}.decision.json", None),
        (f"review/m/2026-01-02/{FRAME}.png", None),
        (f"elsewhere/m/2026-01-02/{FRAME}.json", None),
    ],
)
def test_frames_of_keys(key, frame):
    assert layout.parse_frame_key(key) == frame
    assert frame is None or frame.frame == key


def test_a_run_is_named_by_what_is_judged_however_it_is_written():
    run = fold_run("snapshot", "epochs=60 tile=False escape_cost=3.0 training=learning_rate=1e-3")
    assert run == fold_run("snapshot", "tile=false training=learning_rate=1e-3 epochs=60.0 escape_cost=3")
    others = [("other", "epochs=60"), ("snapshot", "epochs=61"), ("snapshot", "epochs=60")]
    assert len({run, *(fold_run(*one) for one in others)}) == 4
    assert run.startswith("crossval-")
