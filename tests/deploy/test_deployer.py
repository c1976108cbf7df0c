"""Which class deploys where."""

import inspect

import pytest
from bundles import put_champion

from defectline.components.common.errors import SettingsError
from defectline.components.deploy.deployer import Deployer, open_deployer
from defectline.components.deploy.kserve.deployer import KServe
from defectline.components.deploy.local import Local


@pytest.mark.parametrize("kserve", [{}, {"namespace": ""}, {"namespace": "", "image": ""}])
def test_without_a_namespace_it_is_this_machine(store, kserve):
    deployer = open_deployer(store.uri, "defects", kserve)
    assert isinstance(deployer, Local)
    assert deployer.champion() == ""
    champion = put_champion(store)
    assert deployer.champion() == champion.version
    assert deployer.status().version == champion.version
    assert open_deployer(store.uri, "others", kserve).champion() == ""


def test_with_a_namespace_it_is_kserve(store):
    deployer = open_deployer(store.uri, "defects", {"namespace": "vision", "image": "r.example/serve:1"})
    assert isinstance(deployer, KServe)
    assert (deployer.name, deployer.namespace) == ("defects", "vision")
    assert deployer.settings.image == "r.example/serve:1"


def test_settings_that_are_wrong_are_named_before_a_cluster_is_asked(store):
    deployer = open_deployer(store.uri, "defects", {"namespace": "vision", "image": "serve", "gpus": 1})
    with pytest.raises(SettingsError):
        deployer.champion()


@pytest.mark.parametrize("target", [Local, KServe])
def test_every_target_has_the_methods_of_a_deployer(target):
    for name, method in inspect.getmembers(Deployer, inspect.isfunction):
        if not name.startswith("_"):
            assert inspect.signature(getattr(target, name)) == inspect.signature(method), name
