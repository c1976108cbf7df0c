"""From an answer of the endpoint to its chain; a forged one is found."""

import json

import pytest
import requests
from endpoints import plate, serving
from signed import make_signed

from defectline.components.common.bundle import copy_served
from defectline.components.common.errors import SettingsError
from defectline.pipeline.catalog.answers import verify_answer


@pytest.fixture(scope="module")
def signed(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        return make_signed(tmp_path_factory.mktemp("signed") / "all", patch, versions=1)


@pytest.fixture(scope="module")
def asked(signed, tmp_path_factory):
    """An answer of a predictor that trusts the key, its picture, and the predictor's log."""
    folder = tmp_path_factory.mktemp("asked")
    served = folder / "served"
    copy_served(signed.store.root / "models/defects" / signed.version, served)
    trust = ("--trust", str(signed.public), "--version", signed.version)
    with serving(served, folder / "log", *trust, name="defects") as running:
        headers = {"Content-Type": "image/png", "X-Request-ID": "part-7"}
        url = f"{running.url}/v1/models/defects:predict"
        response = requests.post(url, plate(), headers=headers, timeout=60)
        running.request("part-7")
    (folder / "answer.json").write_bytes(response.content)
    (folder / "frame.png").write_bytes(plate())
    return folder


def verify(signed, asked, **more):
    given = {"log": None, "request": "", "image": None} | more
    file = given.pop("file", asked / "answer.json")
    return verify_answer(signed.store, file, [signed.key.public], **given)


def test_the_log_and_the_picture_prove_it(signed, asked):
    chain = verify(signed, asked, log=asked / "log", request="part-7", image=asked / "frame.png")
    assert chain.broken is None
    assert [(link.name, link.says) for link in chain.links[:2]] == [
        ("answer", "the log has request part-7: NG"),
        ("picture", chain.links[1].says),
    ]
    assert chain.links[1].says.startswith("judged again it is NG")
    assert "signature" in [link.name for link in chain.links]


def test_without_either_only_the_version_is_proved(signed, asked):
    chain = verify(signed, asked)
    assert chain.broken is None
    assert (chain.links[0].name, chain.links[0].state) == ("answer", "not there")


def forged(asked, tmp_path, **fields):
    content = json.loads((asked / "answer.json").read_text())
    content["predictions"][0] |= fields
    file = tmp_path / "answer.json"
    file.write_text(json.dumps(content))
    return file


@pytest.mark.parametrize(
    ("fields", "link"),
    [
        ({"verdict": "OK"}, "answer"),
        ({"verdict": "OK", "score": 0.0, "defect_area_px": 0}, "picture"),
        ({"score": 0.2}, "picture"),
        ({"defect_area_px": 3}, "picture"),
    ],
)
def test_a_forged_one(signed, asked, tmp_path, fields, link):
    file = forged(asked, tmp_path, **fields)
    given = (
        {"log": asked / "log", "request": "part-7"} if link == "answer" else {"image": asked / "frame.png"}
    )
    broken = verify(signed, asked, file=file, **given).broken
    assert broken
    assert broken.name == link


def test_another_picture(signed, asked, tmp_path):
    (tmp_path / "frame.png").write_bytes(plate(label="OK"))
    broken = verify(signed, asked, image=tmp_path / "frame.png").broken
    assert broken
    assert broken.says.startswith("judged again it is OK")


@pytest.mark.parametrize(("request_", "says"), [("part-8", "has no line about"), ("", "is not known")])
def test_a_request_that_was_never_answered(signed, asked, request_, says):
    broken = verify(signed, asked, log=asked / "log", request=request_).broken
    assert broken
    assert says in broken.says


def test_a_log_line_of_another_version(signed, asked, tmp_path):
    log = (asked / "log").read_text().replace(signed.version, "v20200101-000000-000000")
    (tmp_path / "log").write_text(log)
    broken = verify(signed, asked, log=tmp_path / "log", request="part-7").broken
    assert broken
    assert "by v20200101-000000-000000" in broken.says


def test_a_version_that_no_model_has(signed, asked, tmp_path):
    file = forged(asked, tmp_path, model_version="v20200101-000000-000000")
    with pytest.raises(SettingsError, match="No model of the store has the version"):
        verify(signed, asked, file=file)


@pytest.mark.parametrize(
    "content", ["", "[]", "3", '{"predictions": []}', '{"predictions": [{"verdict": 1}]}']
)
def test_what_is_no_answer(signed, asked, tmp_path, content):
    (tmp_path / "answer.json").write_text(content)
    with pytest.raises(SettingsError, match="is not an answer"):
        verify(signed, asked, file=tmp_path / "answer.json")


def test_a_line_of_inspect(signed, asked, tmp_path):
    content = json.loads((asked / "answer.json").read_text())["predictions"][0]
    (tmp_path / "line.json").write_text(json.dumps({"image": "frame.png", **content}))
    assert verify(signed, asked, file=tmp_path / "line.json").broken is None
