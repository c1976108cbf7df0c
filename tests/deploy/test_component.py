"""What KFP calls reaches the steps."""

from bundles import put_champion
from kfp import dsl

from defectline.components.common.bundle import read_bundle
from defectline.components.common.records import ChampionRecord, read_champion, read_gate, read_outcome
from defectline.components.deploy import component


def test_the_component_deploys_and_records_the_outcome(judged, store, tmp_path, capsys):
    put_champion(store)
    root = str(tmp_path / "store")
    artifact = dsl.Model(uri=str(judged.folder))
    component.deploy(
        store=root,
        run="one",
        model_name="defects",
        kserve={},
        settings_key="s",
        bundle=artifact,
    )
    version = judged.bundle.version
    assert f"deploy: {version} is the champion on this machine (" in capsys.readouterr().out
    previous = "v20250101-000000-former"
    assert read_champion(store, "defects") == ChampionRecord(version=version, run="one", previous=previous)
    assert component.find_champion(store=root, model_name="defects", kserve={}) == version
    assert read_outcome(store, "one").state == "deployed"
    gated = read_gate(store, "defects")
    assert (gated.run, gated.snapshot, gated.settings_key) == ("one", judged.snapshot, "s")
    # What was published is the whole bundle.
    assert read_bundle(tmp_path / f"store/models/defects/{version}") == judged.bundle
