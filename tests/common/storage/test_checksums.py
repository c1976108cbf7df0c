"""SHA256SUMS."""

import pytest
from networks import write_model

from defectline.components.common.errors import BundleError
from defectline.components.common.storage import checksums


@pytest.mark.parametrize("damage", ["changed", "extra", "unsealed", "sums"])
def test_a_model_that_is_not_what_was_sealed_is_not_judged(tmp_path, damage):
    model = write_model(tmp_path / "model")
    if damage == "changed":
        with (model / "openvino/model.bin").open("ab") as file:
            file.write(b"x")
    elif damage == "extra":
        (model / "more.txt").write_text("x")
    elif damage == "unsealed":
        (model / checksums.NAME).unlink()
    else:
        (model / checksums.NAME).write_bytes(b"\xff no list")
    with pytest.raises(BundleError):
        checksums.verify(model)
