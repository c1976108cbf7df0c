"""Follow a run on a server to its end: its steps, what keeps them waiting, and when waiting is in vain."""

import re
import shlex
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import kfp_server_api as api

from defectline.components.common.errors import DefectlineError, ServingError, SettingsError
from defectline.components.common.steps import Say
from defectline.pipeline.catalog.runs import minutes
from defectline.pipeline.kfp_server.client import ENDED, Server
from defectline.pipeline.kfp_server.transport import CHANGE_TIMEOUT_S

if TYPE_CHECKING:
    from defectline.components.deploy.pods import RunPods, Waiting

WORDS = {
    "PENDING": "waiting to start",
    "RUNNING": "running",
    "SUCCEEDED": "done",
    "FAILED": "failed",
    "CANCELING": "being stopped",
    "CANCELED": "stopped by a person or a program",
    "SKIPPED": "skipped",
    "PAUSED": "paused",
}
"""KFP's states as people read them."""
MAX_POLL_S = 15.0
LOOKS = 3
"""How often in a row a thing must be seen before it is believed: a secret may be made a moment later."""


class Step(NamedTuple):
    """A task of a run that runs a container, as it was last seen."""

    id: str
    name: str
    """With its number where several run alike: `preprocess 1 of 3`."""
    state: str
    """KFP's own, such as RUNNING or SUCCEEDED."""
    minutes: float | None
    """None before it has begun."""
    note: str = ""
    """What keeps it waiting, or which attempt it is at."""


Watch = Callable[[str, Sequence[Step]], None]
"""Gets the run's state and its steps, in the order in which they began, at each look."""
Look = Callable[[str], "RunPods | None"]
"""The pods of a run; None where the cluster cannot be asked."""


class Follower:
    """Waits for runs of a server.

    Looks every `poll_s` seconds, ever less often down to every 15 s. A server that falls silent meanwhile is
    asked again until `timeout_s`. `watch` gets what was seen, `say` lines for people, `look` asks Kubernetes.
    """

    def __init__(
        self,
        server: Server,
        *,
        timeout_s: float,
        poll_s: float,
        say: Say,
        watch: Watch | None = None,
        look: Look | None = None,
    ):
        self.server, self.timeout_s, self.poll_s, self.say = server, timeout_s, poll_s, say
        self.watch, self.look = watch or _sayer(say), look
        self._hopeless: dict[tuple[str, str], list[float]] = {}
        """Step and what to do → when the step was seen waiting for it, look after look."""
        self._seen = self._gone = 0
        self._said: set[str] = set()

    def follow(self, run_id: str, steps: frozenset[str] | None = None) -> str:
        """The state in which the run ended; `steps` are the tasks to tell of, all that run a pod by default.

        Raises ServingError where it has not ended in time or its workflow is gone, SettingsError where a pod
        waits for what only a person can bring, or the token has expired. The run itself goes on, and each
        error names the command that follows it again.
        """
        with going_on(self.server, run_id, self.say):
            return self._follow(run_id, steps)

    def _follow(self, run_id: str, steps: frozenset[str] | None) -> str:
        deadline, poll_s, last = time.monotonic() + self.timeout_s, self.poll_s, ""
        while True:
            try:
                read = self.server.runs.run_service_get_run_with_http_info
                run = self.server.ask("read the run", read, run_id, _request_timeout=CHANGE_TIMEOUT_S)
            except ServingError as error:
                # The run goes on without us, so neither a restarted server nor a lost tunnel ends the wait.
                if last != error.what:
                    self.say(f"{error.what} Got {error.got}; asking again.")
                last = error.what
            else:
                last = f"state {run.state}"
                self._check_lost(run)
                under_way = run.state not in ENDED
                pods = self.look(run_id) if self.look and under_way else None
                self.watch(run.state or "PENDING", read_steps_of(run, steps, pods))
                if not under_way:
                    return str(run.state)
                if self.look:
                    self._check_pods(run, pods)
            left = deadline - time.monotonic()
            if left <= 0:
                raise ServingError(
                    f"The run {run_id} did not end in time.",
                    got=f"{last} after {self.timeout_s:,.0f} s",
                    expected="a run that has ended",
                    fix=f"It goes on by itself. Follow it with `{command(self.server, run_id)}`, or look at "
                    f"{page(self.server, run_id)}.",
                )
            time.sleep(min(poll_s, left))
            poll_s = min(poll_s * 1.5, MAX_POLL_S)

    def _check_lost(self, run: Any) -> None:
        if why := why_lost(self.server, run):
            self._give_up(run, why)

    def _give_up(self, run: Any, why: str) -> NoReturn:
        raise ServingError(
            f"The run {run.run_id} will not end.",
            got=f"{run.state} on the server, but {why}",
            expected="a workflow that works on it",
            fix="Start another run. `defectline status` shows what this one left at the endpoint; its entry "
            f"can be removed in the user interface: {page(self.server, run.run_id)}",
        )

    def _check_pods(self, run: Any, pods: "RunPods | None") -> None:
        """Raise where the run's pods are gone, or one waits for what will not come by itself."""
        run_id = run.run_id
        selector = f"-l pipeline/runid={run_id}"
        if pods is None:
            self._say_once(
                "a step that waits shows as running, since Kubernetes cannot be asked here; see "
                f"`kubectl get pods -A {selector}`"
            )
            return
        self._seen = max(self._seen, pods.number)
        self._gone = self._gone + 1 if pods.number == 0 and run.state == "RUNNING" else 0
        if self._gone >= LOOKS and self._seen:
            self._give_up(run, "its pods, which were there, are gone, and its workflow with them")
        if self._gone >= LOOKS:
            self._say_once(
                "Kubernetes shows no pod of this run: its workflow may be gone, or KUBECONFIG leads to "
                f"another cluster; see `kubectl get pods -A {selector}`"
            )
        # The text changes while kubelet tries again to pull an image.
        stuck = {(one.step, one.fix): one for one in pods.waiting if one.hopeless}
        now = time.monotonic()
        self._hopeless = {key: [*self._hopeless.get(key, ()), now] for key in stuck}
        for key, one in stuck.items():
            seen = self._hopeless[key]
            if len(seen) >= LOOKS and now - seen[0] >= one.patience_s:
                raise SettingsError(
                    f"The run {run_id} cannot go on.",
                    got=f"{one.step}: {one.text}",
                    expected="pods that start",
                    fix=f"{one.fix} The pod then starts by itself: `{command(self.server, run_id)}`. Or stop "
                    f"the run at {page(self.server, run_id)}.",
                )

    def _say_once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self.say(text)


def look_at_pods(namespace: str) -> Look:
    """Asks Kubernetes, in the namespace where the steps' pods run, as long as it may be asked."""
    # The packages of Kubernetes are slow to import.
    from defectline.components.deploy.kserve.answers import Unavailable
    from defectline.components.deploy.pods import look_at

    able = True

    def look(run_id: str) -> "RunPods | None":
        nonlocal able
        try:
            return look_at(run_id, namespace) if able else None
        except Unavailable:
            return None
        except ServingError:
            able = False
            return None

    return look


def why_lost(server: Server, run: Any) -> str:
    """Why nothing works on a run that has not ended; "" where something may.

    A recurring run owns the workflows of its runs: where it was deleted, they went with it, and the server
    goes on saying what it last saw.
    """
    if run.state in ENDED or not run.recurring_run_id:
        return ""
    try:
        there = server.has_job(run.recurring_run_id)
    except DefectlineError:
        # Without the right to look at schedules, what the server says of the run counts.
        return ""
    return "" if there else "its schedule was deleted, and its workflow and pods with it"


@contextmanager
def going_on(server: Server, run_id: str, say: Say) -> Iterator[None]:
    """Whatever ends the wait, say that the run goes on, and how to follow it."""
    again = f"`{command(server, run_id)}`"
    try:
        yield
    except KeyboardInterrupt:
        say(f"The run {run_id} goes on. Follow it with {again}")
        raise
    except SettingsError as error:
        if "--follow" in error.fix:
            raise
        raise type(error)(
            f"{error.what} The run {run_id} goes on.",
            got=error.got,
            expected=error.expected,
            fix=f"{error.fix} Then follow it with {again}.",
        ) from None


def command(server: Server, run_id: str) -> str:
    """What follows a run, as it is typed."""
    words = ["defectline", "runs", "--host", server.host, "--follow", run_id]
    return shlex.join(words + (["--namespace", server.namespace] if server.namespace else []))


def page(server: Server, run_id: str) -> str:
    """Where the user interface shows a run."""
    return f"{server.host}/#/runs/details/{run_id}"


def read_steps_of(run: Any, names: frozenset[str] | None, pods: "RunPods | None" = None) -> list[Step]:
    """The steps of a run, in the order in which they began. Pure."""
    waiting = list(pods.waiting) if pods else []
    attempts = pods.attempts if pods else {}
    details = list(run.run_details.task_details or []) if run.run_details else []
    tasks = [task for task in details if task.state and _is_step(task, names)]
    tasks.sort(key=lambda task: (str(task.start_time or task.create_time), str(task.task_id)))
    numbers, found = Counter(task.display_name for task in tasks), []
    seen: Counter[str] = Counter()
    notes_of = _waiting_tasks(tasks, waiting)
    for task in tasks:
        seen[task.display_name] += 1
        several = numbers[task.display_name] > 1
        name = task.display_name
        if several:
            name += f" {seen[task.display_name]} of {numbers[task.display_name]}"
        waits = notes_of.get(task.task_id, "")
        notes = [waits] if waits else []
        state = "PENDING" if waits else task.state
        if task.state not in ENDED and (attempt := attempts.get(task.display_name, 1)) > 1:
            notes.append(f"attempt {attempt}: the pod before was lost")
        began = task.start_time or task.create_time
        found.append(Step(task.task_id, name, state, _minutes_so_far(began, task.end_time), "; ".join(notes)))
    return found


def _is_step(task: Any, names: frozenset[str] | None) -> bool:
    name = str(task.display_name)
    if names is not None:
        return name in names
    groups = ("root", "executor", "iteration", "for-loop", "condition", "exit-handler", "run")
    named = ("shards", "parts", "folds", "test-parts", "anything-new", "gate-passed")
    return not name.endswith("-driver") and not name.startswith((*groups, *named))


def _waiting_tasks(tasks: Sequence[Any], waiting: "Sequence[Waiting]") -> dict[str, str]:
    """Task → what its pod waits for. Of shards that run alike, those that began last have not started yet; a
    driver's pod, `train-driver`, waits for the step behind it."""
    found: dict[str, str] = {}
    for one in waiting:
        names = (one.step, one.step.removesuffix("-driver"))
        for task in reversed(tasks):
            if task.display_name in names and task.state not in ENDED and task.task_id not in found:
                found[task.task_id] = one.text
                break
    return found


def _minutes_so_far(began: datetime | None, ended: datetime | None) -> float | None:
    if began is None:
        return None
    # A server gives what has not ended an end in the year 1.
    return minutes(began, ended if ended and ended >= began else datetime.now(UTC))


def _sayer(say: Say) -> Watch:
    """Says what differs from the look before, a line a change."""
    seen: dict[str, str] = {}

    def watch(state: str, steps: Sequence[Step]) -> None:
        for step in steps:
            told = WORDS.get(step.state, step.state) + (f", {step.note}" if step.note else "")
            if seen.get(step.id) != told:
                seen[step.id] = told
                say(f"{step.name}: {told}")
        if seen.get("") != state:
            seen[""] = state
            say(f"run: {WORDS.get(state, state)}")

    return watch


def find_run(server: Server, start: str) -> api.V2beta1Run:
    """The run of that id, of the start of one, or of that name. Raises SettingsError."""
    from defectline.pipeline.catalog.reading import resolve

    if re.fullmatch("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", start):
        return server.ask("read the run", server.runs.run_service_get_run_with_http_info, start)
    found = list(
        server.pages(
            "list runs",
            server.runs.run_service_list_runs_with_http_info,
            "runs",
            namespace=server.namespace,
            sort_by="created_at desc",
        )
    )
    named = [run for run in found if run.display_name == start]
    if len(named) > 1:
        raise SettingsError(
            f"Several runs are called {start}.",
            got=", ".join(run.run_id for run in named[:5]),
            expected="one run",
            fix="Name it by its id.",
        )
    if named:
        return named[0]
    ids = [run.run_id for run in found]
    wanted = resolve(start, ids[::-1], "run", "defectline runs --host URL")
    return next(run for run in found if run.run_id == wanted)
