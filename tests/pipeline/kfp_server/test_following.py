"""What is seen of a run that is followed: its steps as they are, and what keeps a pod from starting."""

import time
from datetime import UTC, datetime, timedelta
from itertools import cycle

import kfp_server_api as api
import pytest
from kfp_api import BEGINNING, task_detail
from small_pipeline import assert_helps

from defectline.components.common.errors import ServingError, SettingsError
from defectline.components.deploy.pods import RunPods, Waiting
from defectline.pipeline.kfp_server.following import read_steps_of
from defectline.pipeline.kfp_server.runs import follow

MISSING = Waiting(
    "measure",
    'its pod does not start: CreateContainerConfigError: secret "s3-keys" not found',
    hopeless=True,
    fix="Create what the message names.",
)
FULL = Waiting("measure", "its pod finds no node: 0/1 nodes are available: 1 Insufficient cpu.")


def pods(*waiting: Waiting, **attempts: int) -> RunPods:
    return RunPods(max(1, len(waiting)), waiting, attempts)


def seen(tasks: dict[str, str]) -> api.V2beta1Run:
    """A run as the server tells of it, which begins with what came last."""
    details = [task_detail("r", number, *task) for number, task in enumerate(tasks.items())]
    return api.V2beta1Run(run_details=api.V2beta1RunDetails(task_details=details[::-1]))


def test_steps_come_in_the_order_in_which_they_began():
    steps = read_steps_of(seen({"ingest": "SUCCEEDED", "train": "SUCCEEDED", "evaluate": "RUNNING"}), None)
    assert [step.name for step in steps] == ["ingest", "train", "evaluate"]


def test_a_step_under_way_has_the_minutes_since_it_began():
    run = seen({"train": "RUNNING"})
    [task] = run.run_details.task_details
    assert task.end_time == BEGINNING
    task.start_time = datetime.now(UTC) - timedelta(minutes=12)
    [step] = read_steps_of(run, None)
    assert step.minutes == pytest.approx(12, abs=0.5)


def test_shards_have_numbers():
    shards = {"preprocess#0": "SUCCEEDED", "preprocess#1": "RUNNING", "preprocess#2": "RUNNING"}
    names = [step.name for step in read_steps_of(seen({"ingest": "SUCCEEDED", **shards}), None)]
    assert names == ["ingest", "preprocess 1 of 3", "preprocess 2 of 3", "preprocess 3 of 3"]


def test_loops_around_steps_are_not_steps():
    loops = dict.fromkeys(("shards", "parts", "folds", "test-parts", "for-loop-1"), "RUNNING")
    assert [step.name for step in read_steps_of(seen({**loops, "judge": "RUNNING"}), None)] == ["judge"]


def test_a_step_that_was_started_again_says_so():
    """Kubernetes knows; the server's tasks do not name their pods."""
    [step] = read_steps_of(seen({"train": "RUNNING"}), frozenset({"train"}), pods(train=2))
    assert step.note == "attempt 2: the pod before was lost"


def test_drivers_and_groups_are_not_steps():
    run = seen(
        {"root-driver": "SUCCEEDED", "root": "RUNNING", "ingest-driver": "SUCCEEDED", "ingest": "RUNNING"}
    )
    assert [step.name for step in read_steps_of(run, None)] == ["ingest"]


def test_a_pod_that_has_not_started_is_shown_with_its_reason():
    [step] = read_steps_of(seen({"measure": "RUNNING"}), None, pods(FULL))
    assert (step.state, step.note) == ("PENDING", FULL.text)


def test_a_driver_that_waits_is_shown_at_its_step():
    driver = FULL._replace(step="measure-driver")
    [step] = read_steps_of(seen({"measure": "RUNNING"}), None, pods(driver))
    assert (step.state, step.note) == ("PENDING", FULL.text)


def test_of_several_shards_only_the_one_that_waits_is_shown_so():
    run = seen({"measure#0": "RUNNING", "measure#1": "RUNNING", "measure#2": "RUNNING"})
    assert [step.state for step in read_steps_of(run, None, pods(FULL))] == ["RUNNING", "RUNNING", "PENDING"]


def test_what_only_a_person_can_bring_ends_the_wait_early(run, server):
    server.script = (("RUNNING", {"measure": "RUNNING"}),)
    lines: list[str] = []
    with pytest.raises(SettingsError) as caught:
        run(wait=True, say=lines.append, look=lambda run_id: pods(MISSING))
    assert_helps(caught.value, "cannot go on", 'secret "s3-keys" not found', "--follow", "Create what")
    assert f"measure: waiting to start, {MISSING.text}" in lines


def test_a_secret_that_comes_a_moment_later_does_not(run, server):
    looks = iter([pods(MISSING), pods(MISSING)])
    assert run(wait=True, look=lambda run_id: next(looks, pods()), say=lambda line: None).state == "SUCCEEDED"


def test_an_image_that_cannot_be_pulled_ends_the_wait_after_its_time(run, server):
    """kubelet's reason changes between its attempts."""
    server.script = (("RUNNING", {"measure": "RUNNING"}),)
    text = "its pod does not start: {}: image r/train:1"
    tries = [
        MISSING._replace(text=text.format(reason), fix="Push the image.", patience_s=0.2)
        for reason in ("ErrImagePull", "ImagePullBackOff")
    ]
    looks = cycle(tries)
    began = time.monotonic()
    with pytest.raises(SettingsError) as caught:
        run(wait=True, say=lambda line: None, look=lambda run_id: pods(next(looks)))
    assert 0.2 <= time.monotonic() - began < 10
    assert_helps(caught.value, "cannot go on", "image r/train:1", "Push the image", "--follow")


def test_a_registry_that_was_away_does_not(run, server):
    away = MISSING._replace(text="its pod does not start: ErrImagePull: image r/train:1", patience_s=60)
    looks = iter([pods(away)] * 5)
    assert run(wait=True, look=lambda run_id: next(looks, pods()), say=lambda line: None).state == "SUCCEEDED"


def test_a_lack_of_room_is_told_and_waited_for(run, server):
    """An autoscaler may bring a node."""
    server.script = (("RUNNING", {"measure": "RUNNING"}),) * 8 + (("SUCCEEDED", {"measure": "SUCCEEDED"}),)
    lines: list[str] = []
    done = run(wait=True, say=lines.append, look=lambda run_id: pods(FULL))
    assert done.state == "SUCCEEDED"
    assert [line for line in lines if "Insufficient cpu" in line] == [
        f"measure: waiting to start, {FULL.text}"
    ]


def test_following_a_run_that_has_ended_says_how(run, server):
    first = run(wait=True, say=lambda line: None)
    assert follow(first.run_id, host=server.host, say=lambda line: None).state == "SUCCEEDED"


def test_where_kubernetes_cannot_be_asked_the_command_that_can_is_named_once(run, server):
    lines: list[str] = []
    done = run(wait=True, look=lambda run_id: None, say=lines.append)
    told = [line for line in lines if "kubectl get pods" in line]
    assert len(told) == 1
    assert f"pipeline/runid={done.run_id}" in told[0]


def test_a_run_whose_pods_go_away_will_not_end(run, server):
    server.script = (("RUNNING", {"measure": "RUNNING"}),)
    looks = iter([pods()])
    with pytest.raises(ServingError) as caught:
        run(wait=True, say=lambda line: None, look=lambda run_id: next(looks, RunPods(0)))
    assert_helps(caught.value, "will not end", "its pods, which were there, are gone")


def test_a_cluster_that_shows_no_pod_at_all_is_a_suspicion(run, server):
    """KUBECONFIG may lead to another cluster."""
    server.script = (("RUNNING", {"measure": "RUNNING"}),) * 8 + (("SUCCEEDED", {}),)
    lines: list[str] = []
    done = run(wait=True, say=lines.append, look=lambda run_id: RunPods(0))
    assert done.state == "SUCCEEDED"
    assert len([line for line in lines if "may be gone, or KUBECONFIG" in line]) == 1


def test_schedules_that_cannot_be_asked_for_do_not_end_the_wait(apply, server):
    job = apply()
    run_id = server.start_scheduled(job.id)
    server.polls[run_id] = iter([("RUNNING", {}), ("SUCCEEDED", {})])
    server.fail("GET", "/recurringruns/", 503)
    assert follow(run_id, host=server.host, poll_s=0.001, say=lambda line: None).state == "SUCCEEDED"


def test_runs_of_one_name_are_told_apart_by_their_ids(run, server):
    ids = {run(name="plates").run_id, run(name="plates").run_id}
    with pytest.raises(SettingsError) as caught:
        follow("plates", host=server.host)
    assert all(one in caught.value.got for one in ids)
