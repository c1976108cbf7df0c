"""Going back to an earlier version on this machine."""

import pytest
from bundles import put_champion
from commands import defectline

from defectline.components.common.bundle import publish_folder
from defectline.components.common.errors import BundleError, ServingError
from defectline.components.common.records import (
    ChampionRecord,
    GateRecord,
    Outcome,
    read_champion,
    write_gate,
    write_outcome,
)
from defectline.components.deploy.deployer import open_deployer


def test_back_to_the_version_before_and_what_serves_then(judged, store, tmp_path):
    root, version = str(tmp_path / "store"), judged.bundle.version
    publish_folder(judged.folder, store, f"models/defects/{version}")
    later = ChampionRecord(version="v20990101-000000-bbbbbb", run="two", previous=version)
    store.write("models/defects/current.json", later.model_dump_json().encode())
    assert open_deployer(root, "defects", {}).roll_back() == version
    assert read_champion(store, "defects") == ChampionRecord(
        version=version, run="rollback", previous=later.version
    )
    write_outcome(store, "two", Outcome(state="refused", reason="max_escape"))
    write_gate(store, "defects", GateRecord(run="two", snapshot="s", settings_key="{}"))
    shown = defectline("status", "--store", root)
    assert shown.returncode == 0, shown.stderr
    for text in (f"version    {version}", f"before     {later.version}", "two: refused, max_escape"):
        assert text in shown.stdout
    # The one that is to come back is gone.
    with pytest.raises(BundleError, match=f"There is no bundle {later.version}") as caught:
        open_deployer(root, "defects", {}).roll_back()
    assert version in caught.value.expected
    (tmp_path / f"store/models/defects/{version}/bundle.json").write_text("{}")
    with pytest.raises(BundleError, match="is not what was sealed") as caught:
        open_deployer(root, "defects", {}).roll_back(version)
    assert caught.value.what.startswith(store.url(f"models/defects/{version}/bundle.json"))
    assert read_champion(store, "defects").version == version


def test_nothing_to_go_back_to(store, tmp_path):
    root = str(tmp_path / "store")
    with pytest.raises(ServingError, match="no version to go back to") as caught:
        open_deployer(root, "defects", {}).roll_back()
    assert caught.value.got == "no champion"
    put_champion(store)
    with pytest.raises(ServingError, match="no version to go back to") as caught:
        open_deployer(root, "defects", {}).roll_back()
    assert caught.value.got == "nothing before v20250101-000000-former"
    assert "defectline models" in caught.value.fix
    assert open_deployer(root, "others", {}).status().version == ""
