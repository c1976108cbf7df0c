"""The product on a cluster, from its manifests to its last version; each test says in one line what it found.

They run in this order and build on one another. Nothing in them knows whether the cluster is a real one.
"""

import json
import re
import time

import pytest
from e2e.kube import wait
from e2e.suite import explain, in_background

pytestmark = pytest.mark.e2e

FIRST = "test_the_first_run_is_deployed"
SECOND = "test_five_more_pairs_are_rolled_out_without_a_failed_request"


def test_the_manifests_are_applied(suite, found):
    count = suite.apply_manifests()
    endpoint = suite.knobs.s3_endpoint.partition("://")
    annotations = {"serving.kserve.io/s3-region": "us-east-1"}
    if suite.knobs.s3_endpoint:
        annotations["serving.kserve.io/s3-endpoint"] = endpoint[2]
        annotations["serving.kserve.io/s3-usehttps"] = str(int(endpoint[0] == "https"))
    suite.make_secret(suite.knobs.namespace, "defectline-models", **annotations)
    suite.make_secret(suite.knobs.steps_namespace, f"e2e-{suite.knobs.suffix}-s3")
    suite.make_namespace(suite.knobs.line, **{"defectline.dev/line": "true"})
    found(f"{count} objects of overlay {suite.knobs.overlay} in {suite.knobs.namespace}")


def test_monitoring_is_admitted(suite, found, needs):
    needs("test_the_manifests_are_applied", group="monitoring.coreos.com")
    made = suite.rendered("components/monitoring")
    for one in made:
        suite.kube.apply(one, dry=True)
    found(f"{len(made)} objects pass in a dry run")


def test_the_nodes_have_room(suite, found):
    nodes = suite.kube.list("Node")
    cores = [_cores(node["status"]["allocatable"]["cpu"]) for node in nodes]
    assert cores, "no node"
    if max(cores) < 1.5:
        pytest.skip(f"the largest node has {max(cores)} processors, and a step and a served pod need 1.5")
    found(f"{len(nodes)} nodes, at most {max(cores):g} processors on one")


def test_doctor_finds_nothing_wrong(suite, found, needs):
    needs("test_the_manifests_are_applied")
    suite.make_source()
    options = ["--source", suite.source_uri, "--store", suite.store_uri, "--host", suite.knobs.host]
    done = suite.command("doctor", *options)
    assert done.returncode == 0, explain(done)
    found("source, store and server answer")


def test_the_first_run_is_deployed(suite, found, needs):
    needs("test_doctor_finds_nothing_wrong", group="serving.kserve.io")
    began = time.monotonic()
    suite.package = suite.compile("first")
    started = suite.submit(suite.package, wait=False)
    assert started.returncode == 0, explain(started)
    done = suite.command("runs", "--host", suite.knobs.host, "--follow", suite.last_run)
    assert done.returncode == 0, explain(done)
    outcome = suite.outcome(suite.last_run)
    assert outcome is not None, "the run left no outcome in the store"
    assert outcome.state == "deployed", outcome.reason
    assert suite.champion() == outcome.version
    suite.versions.append(outcome.version)
    states = {step.step: step.state for step in suite.steps(suite.last_run)}
    assert states == dict.fromkeys(states, "done"), states
    assert {"ingest", "preprocess", "train", "evaluate", "deploy"} <= states.keys()
    found(f"{outcome.version} serves after {(time.monotonic() - began) / 60:.1f} min")


def test_a_pod_of_the_line_gets_a_verdict(suite, found, needs):
    needs(FIRST)
    with suite.asking_pod("asks-once", suite.picture("NG")) as so_far:
        wait(lambda: so_far()["asked"] >= 5, 60, "five more answers")
        said = so_far()
    assert said["failed"] == 0, said["why"]
    assert list(said["versions"]) == [suite.versions[-1]]
    found(f"{said['asked']} answers of {suite.versions[-1]} within the cluster")


def test_a_client_outside_gets_a_verdict(suite, found, needs):
    needs(FIRST)
    prediction = suite.ask_from_outside(suite.picture("NG"))
    assert prediction["model_version"] == suite.versions[-1]
    assert prediction["verdict"] == "NG"
    found(
        f"{prediction['verdict']} {prediction['score']:.2f} through {suite.knobs.gateway or 'the API server'}"
    )


def test_without_new_images_nothing_is_trained(suite, found, needs):
    needs(FIRST)
    done = suite.submit(suite.package)
    assert done.returncode == 0, explain(done)
    outcome = suite.outcome(suite.last_run)
    assert outcome.state == "nothing_new", outcome
    assert {step.step for step in suite.steps(suite.last_run)} == {"ingest"}
    found(outcome.reason)


def test_five_more_pairs_are_rolled_out_without_a_failed_request(suite, found, needs):
    needs(FIRST)
    suite.add_pairs()
    with suite.asking_pod("asks-during-rollout", suite.picture("NG")) as so_far:
        # Of few pictures a tie would keep the champion.
        done = suite.submit(suite.package, "replace=not_worse")
        assert done.returncode == 0, explain(done)
        outcome = suite.outcome(suite.last_run)
        assert outcome.state == "deployed", outcome
        assert outcome.version not in suite.versions
        wait(lambda: outcome.version in so_far()["versions"], 60, "an answer of the new version")
        said = so_far()
    suite.versions.append(outcome.version)
    assert said["failed"] == 0, f"{said['failed']} of {said['asked']} requests failed: {said['why']}"
    assert set(said["versions"]) == set(suite.versions)
    found(f"{said['asked']} requests, 0 failed, from {suite.versions[-2]} to {suite.versions[-1]}")


def test_rollback_from_outside_goes_back_without_a_failed_request(suite, found, needs):
    needs(SECOND)
    options = ["--store", suite.store_uri, "--namespace", suite.knobs.namespace, "--name", suite.knobs.model]
    with suite.asking_pod("asks-during-rollback", suite.picture("NG")) as so_far:
        began = time.monotonic()
        done = suite.command("rollback", *options)
        took = time.monotonic() - began
        assert done.returncode == 0, explain(done)
        wait(lambda: so_far()["versions"].get(suite.versions[0], 0), 60, "an answer of the version before")
        said = so_far()
    assert suite.champion() == suite.versions[0]
    assert said["failed"] == 0, f"{said['failed']} of {said['asked']} requests failed: {said['why']}"
    again = suite.command("rollback", *options, "--to", suite.versions[1])
    assert again.returncode == 0, explain(again)
    assert suite.champion() == suite.versions[1]
    found(f"{took:.0f} s, {said['asked']} requests, 0 failed; and forward again")


def test_a_refusing_gate_leaves_the_champion_alone(suite, found, needs):
    needs(FIRST)
    champion = suite.champion()
    # Weights that know nothing are not good enough for any gate.
    done = suite.submit(suite.package, "init_from=none", "min_iou=1", fail_on_gate=True)
    outcome = suite.outcome(suite.last_run)
    assert outcome.state == "refused", outcome
    assert done.returncode == 3, explain(done)
    assert suite.champion() == champion
    found(outcome.reason)


def test_a_wrong_source_is_told_to_who_waits(suite, found, needs):
    needs(FIRST)
    wrong = f"{suite.knobs.folder}/no-such-folder"
    done = suite.submit(suite.package, source=wrong)
    assert done.returncode == 1, explain(done)
    outcome = suite.outcome(suite.last_run)
    assert outcome.state == "failed"
    assert outcome.reason.startswith("failed in ingest: "), outcome.reason
    assert outcome.reason in done.stdout, explain(done)
    # With what to do about it.
    assert "fix:" in done.stdout, explain(done)
    found(outcome.reason)


def test_a_missing_secret_ends_the_wait_early(suite, found, needs):
    needs(FIRST)
    name = f"e2e-{suite.knobs.suffix}-none"
    suite.expected_events.add(name)
    began = time.monotonic()
    done = suite.submit(suite.compile("secretless", "--s3-secret", name))
    took = time.monotonic() - began
    suite.terminate(suite.last_run)
    assert done.returncode != 0
    assert name in done.stdout + done.stderr, explain(done)
    assert took < suite.knobs.timeout_s, "it waited to the end"
    found(f"told after {took:.0f} s: secret {name} not found")


def test_a_killed_train_pod_is_started_again(suite, found, needs):
    needs(FIRST)
    # Of a step that is cached there is no pod; and weights that know nothing leave the champion alone.
    done = suite.submit(suite.package, "init_from=none", "seed=1", "min_iou=1", wait=False)
    assert done.returncode == 0, explain(done)
    run = suite.last_run

    def training() -> str:
        steps = suite.steps(run)
        return next((step.pod for step in steps if step.step == "train" and step.state == "running"), "")

    pod = wait(training, suite.knobs.timeout_s, "train runs")
    suite.expected_events.add(pod)
    suite.kube.delete("Pod", suite.knobs.steps_namespace, pod)
    wait(lambda: suite.outcome(run), suite.knobs.timeout_s, "the run ends")
    outcome = suite.outcome(run)
    assert outcome.state == "refused", outcome.reason
    train = next(step for step in suite.steps(run) if step.step == "train")
    assert train.pod != pod, "the step was not started again"
    found(f"{pod} was deleted, {train.pod} did the work, and the gate had its say")


def test_a_deploy_that_is_stopped_half_way_leaves_nothing(suite, found, needs):
    needs(FIRST)
    champion, candidate = suite.champion(), f"{suite.knobs.model}-candidate"
    done = suite.submit(suite.package, "grade_b_px=9000", wait=False)
    assert done.returncode == 0, explain(done)
    run = suite.last_run
    wait(
        lambda: suite.kube.find("InferenceService", suite.knobs.namespace, candidate),
        suite.knobs.timeout_s,
        "the candidate is there",
        every_s=0.1,
    )
    suite.terminate(run)
    wait(lambda: suite.outcome(run), suite.knobs.timeout_s, "the run ends")
    outcome = suite.outcome(run)
    assert outcome.state == "failed", outcome
    wait(
        lambda: suite.kube.find("InferenceService", suite.knobs.namespace, candidate) is None,
        120,
        "the candidate goes away",
    )
    assert suite.champion() == champion
    assert suite.ask_from_outside(suite.picture("OK"))["model_version"] == champion
    found(outcome.reason)


def test_a_broken_bundle_is_refused(suite, found, needs):
    needs(SECOND)
    champion = suite.champion()
    key = f"models/{suite.knobs.model}/{suite.versions[0]}/openvino/model.bin"
    whole = suite.store.read(key)
    suite.store.write(key, whole[: len(whole) // 2] + b"\0" + whole[len(whole) // 2 + 1 :])
    try:
        options = ["--store", suite.store_uri, "--namespace", suite.knobs.namespace]
        options += ["--name", suite.knobs.model, "--to", suite.versions[0]]
        done = suite.command("rollback", *options)
    finally:
        suite.store.write(key, whole)
    assert done.returncode == 2, explain(done)
    assert "model.bin" in done.stderr, done.stderr
    assert suite.champion() == champion
    found(done.stderr.splitlines()[0])


def test_an_image_that_is_not_there_leaves_the_champion_alone(suite, found, needs):
    needs(FIRST)
    champion = suite.champion()
    missing = re.sub(r"(@sha256:.*|:[^:/]*)$", ":not-there", suite.image.replace("deploy", "serve"))
    suite.expected_events.add("not-there")
    package = suite.compile("imageless", env={"DEFECTLINE_IMAGE_SERVE": missing})
    done = suite.submit(package, "grade_b_px=9001")
    outcome = suite.outcome(suite.last_run)
    assert done.returncode == 1, explain(done)
    assert outcome.state == "failed"
    assert "Image" in outcome.reason or "image" in outcome.reason, outcome.reason
    assert suite.champion() == champion
    assert suite.ask_from_outside(suite.picture("OK"))["model_version"] == champion
    found(outcome.reason)


def test_a_schedule_fires_twice_and_rests_when_it_is_paused(suite, found, needs):
    needs(FIRST)
    host = ("--host", suite.knobs.host)
    named = ("--name", suite.knobs.model)
    options = ["--source", suite.source_uri, "--store", suite.store_uri]
    options += ["--package", str(suite.package), "--experiment", suite.knobs.model]
    options += [part for pair in suite.settings for part in ("--set", pair)]
    started = set(_runs(suite))
    applied = suite.command("schedule", "apply", *host, *named, "--cron", "* * * * *", *options)
    assert applied.returncode == 0, explain(applied)
    suite.cleaner.add("the schedule", lambda: suite.command("schedule", "delete", *host, *named, "--force"))

    def ended() -> list[str]:
        new = [run for run in _runs(suite) if run not in started]
        return new if sum(suite.outcome(run) is not None for run in new) >= 2 else []

    fired = wait(ended, suite.knobs.timeout_s, "the schedule fires twice")
    suite.runs += fired
    paused = suite.command("schedule", "pause", *host, *named)
    assert paused.returncode == 0, explain(paused)
    time.sleep(suite.knobs.minute_s / 2)
    before = _runs(suite)
    time.sleep(2 * suite.knobs.minute_s)
    assert set(_runs(suite)) == set(before), "it fired although it was paused"
    found(f"{len(fired)} runs, then none in two minutes")


def test_the_store_tells_all_of_it_from_outside(suite, found, needs):
    needs(SECOND)
    store = ("--store", suite.store_uri)
    named = ("--name", suite.knobs.model)
    seen = {
        "runs": suite.command("runs", *store),
        "runs of the server": suite.command("runs", "--host", suite.knobs.host),
        "models": suite.command("models", *store, *named),
        "metrics": suite.command("metrics", *store),
        "report": suite.command("report", *store, "--output", str(suite.folder / "report.html")),
        "lineage": suite.command("lineage", suite.versions[0], *store),
        "status": suite.command("status", *store, *named, "--namespace", suite.knobs.namespace),
        "prune": suite.command("prune", *store, "--namespace", suite.knobs.namespace),
    }
    for name, done in seen.items():
        assert done.returncode == 0, f"{name}: {explain(done)}"
    for name in ("runs", "runs of the server"):
        assert suite.runs[0] in seen[name].stdout, f"{name} does not list {suite.runs[0]}"
    for name in ("models", "lineage"):
        assert suite.versions[0] in seen[name].stdout, name
    assert suite.champion() in seen["status"].stdout
    found(", ".join(seen))


def test_no_event_tells_of_a_fault_of_ours(suite, found, needs):
    needs(FIRST)
    events = suite.kube.list("Event", suite.knobs.namespace)
    bad = [
        f"{event['involvedObject']['name']}: {event.get('reason')} {event.get('message')}"
        for event in events
        if event.get("type") == "Warning"
        # A pod that starts is not ready yet, and one that ends not any more.
        and event.get("reason") not in ("Unhealthy", "FailedScheduling")
        and not any(word in json.dumps(event) for word in suite.expected_events)
    ]
    assert bad == [], "; ".join(bad[:5])
    found(f"{len(events)} events, no fault")


def test_what_runs_at_the_same_time_is_left_to_one(suite, found, needs):
    """Last, since its two deployments may end in either order."""
    needs(FIRST)
    options = ["--store", suite.store_uri, "--namespace", suite.knobs.namespace, "--name", suite.knobs.model]
    other = next(version for version in suite.versions if version != suite.champion())
    first = in_background(lambda: suite.command("rollback", *options, "--to", other))
    second = in_background(lambda: suite.command("rollback", *options, "--to", other))
    ends = [first(), second()]
    assert 0 in [done.returncode for done in ends], "\n".join(map(explain, ends))
    assert suite.champion() == other
    assert suite.ask_from_outside(suite.picture("OK"))["model_version"] == other
    found(f"exits {sorted(done.returncode for done in ends)}, {other} serves")


def _runs(suite) -> list[str]:
    """The ids of the runs of the suite's experiment on the server."""
    listed = suite.server.pages(
        "list runs",
        suite.server.runs.run_service_list_runs_with_http_info,
        "runs",
        experiment_id=suite.server.experiment_id(suite.knobs.model),
    )
    return [run.run_id for run in listed]


def _cores(amount: str) -> float:
    return float(amount[:-1]) / 1000 if amount.endswith("m") else float(amount)
