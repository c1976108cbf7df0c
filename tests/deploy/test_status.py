"""What `defectline status` tells of a model on this machine, beyond which version serves."""

from defectline.components.common.records import GateRecord, Outcome, write_gate, write_outcome
from defectline.components.deploy.status import Status, last_run


def test_without_a_run_there_is_no_last_one(store):
    assert last_run(store, "defects") == {}


def test_the_last_run_is_the_one_that_reached_its_gate(store):
    write_gate(store, "defects", GateRecord(run="two", snapshot="s", settings_key="epochs=1"))
    assert last_run(store, "defects") == {"last_run": "two", "last_outcome": None}
    outcome = Outcome(state="refused", reason="max_escape")
    write_outcome(store, "two", outcome)
    write_outcome(store, "three", Outcome(state="failed", reason="interrupted"))
    assert last_run(store, "defects") == {"last_run": "two", "last_outcome": outcome}
    assert last_run(store, "others") == {}


def test_the_fields_that_programs_read():
    """They are those of `status --json`; a change breaks what people have built on it."""
    assert set(Status(name="defects").model_dump()) == {
        "name",
        "namespace",
        "version",
        "previous",
        "url",
        "ready_pods",
        "wanted_pods",
        "under_way",
        "last_run",
        "last_outcome",
    }
