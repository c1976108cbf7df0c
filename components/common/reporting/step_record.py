"""What each step of a run on a cluster leaves in the store: that it runs, how it ended, or why it failed.

runs/<run>/steps/<step>.json, <step>-<shard>.json, or <step>/<part>.json     a `StepRecord`

KFP hands on neither the message of a step that failed nor the name of its pod. A step whose outputs came
from KFP's cache did not run, and leaves nothing.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from defectline.components.common import layout
from defectline.components.common.errors import DefectlineError
from defectline.components.common.storage import Storage

NEAR = 0.9
"""From this part of its limit on, memory is what a step was probably killed for."""
GIB = 1 << 30
WITHIN = {
    **dict.fromkeys(("plan", "read", "deal"), "ingest"),
    **dict.fromkeys(("calibrate", "judge", "collect"), "evaluate"),
}
"""Steps → those whose resources they have."""
GOT = 300
"""Characters of what was found that a reason repeats."""


class _Part(BaseModel):
    # Images of another version may write more.
    model_config = ConfigDict(frozen=True, extra="ignore")


class StepError(_Part):
    """The sentences of a DefectlineError."""

    what: str
    got: str
    expected: str
    fix: str


class Memory(_Part):
    """Of the container, without what the kernel could give back at once."""

    limit_bytes: int
    highest_bytes: int
    """The highest use that was seen."""
    killed: int = 0
    """Processes that the kernel has killed because of the limit."""

    @property
    def near(self) -> bool:
        return self.killed > 0 or self.highest_bytes >= NEAR * self.limit_bytes

    def __str__(self) -> str:
        return f"{self.highest_bytes / GIB:.2f} of {self.limit_bytes / GIB:.2f} GiB of memory"


class StepRecord(_Part):
    step: str
    shard: int = 0
    shards: int = 1
    part: str = ""
    """What it works on where a run does the same with several, such as a fold, in words."""
    copy_of: str = ""
    """Tells those apart that do the same with the same part; of the key alone."""
    state: Literal["running", "done", "failed", "stopped"]
    """`running` is also what a step leaves that was killed."""
    pod: str = ""
    namespace: str = ""
    began: str = ""
    ended: str = ""
    """Both in ISO 8601, UTC."""
    summary: str = ""
    error: StepError | None = None
    """What the user can fix."""
    fault: str = ""
    """The traceback of an internal error."""
    memory: Memory | None = None
    """Absent while its use is far from its limit, and where there is no limit."""

    @property
    def title(self) -> str:
        which = "" if self.shards == 1 else f" {self.shard + 1} of {self.shards}"
        return f"{self.step}{which}" + (f" of {self.part}" if self.part else "")

    @property
    def key(self) -> str:
        """Below the run's folder."""
        name = self.step if self.shards == 1 else f"{self.step}-{self.shard}"
        words = re.findall("[a-z0-9]+", f"{self.part} {self.copy_of}".lower())
        return f"{layout.STEPS}{'/'.join(filter(None, (name, '-'.join(words))))}.json"

    @property
    def log(self) -> str:
        """How to read the pod's log; empty where the pod is not known."""
        where = f" -n {self.namespace}" if self.namespace else ""
        return f"kubectl logs {self.pod} -c main{where}" if self.pod else ""

    @property
    def reason(self) -> str:
        """Why the step did not end well, in one sentence, where its run has ended."""
        # A step whose other processes were killed fails by what that caused.
        short_of_memory = f" at {self.memory}" if self.memory and self.memory.near else ""
        log = f" Its log: {self.log}" if self.log else ""
        if self.error:
            # What went wrong is often a consequence: that the champion still serves, that a source is empty.
            return f"failed in {self.title}: {self.error.what} Got {_shortened(self.error.got)}"
        if self.state == "failed":
            last = self.fault.strip().splitlines()[-1:] or ["an internal error"]
            return f"failed in {self.title}{short_of_memory}: {last[0]}.{log}"
        if self.state == "stopped":
            after = f" after {self._minutes:,.0f} min" if self._minutes is not None else ""
            return (
                f"stopped in {self.title}{after}: the run was cancelled, the step's time was up, or its node "
                "was needed for something else"
            )
        if short_of_memory:
            return (
                f"killed in {self.title}{short_of_memory}: give it more, with `compile --resources "
                f"{WITHIN.get(self.step, self.step)}=CPU,MEMORY`"
            )
        return f"ended in {self.title}, which could not say why: it was killed, or lost its node.{log}"

    @property
    def detail(self) -> str:
        """More than the sentence: what to do about an error, or the end of a traceback; may be empty."""
        if self.error:
            return str(DefectlineError(**self.error.model_dump()))
        return "\n".join(self.fault.splitlines()[-40:])

    @property
    def _minutes(self) -> float | None:
        if not (self.began and self.ended):
            return None
        return (datetime.fromisoformat(self.ended) - datetime.fromisoformat(self.began)).total_seconds() / 60


def _shortened(text: str) -> str:
    """On one line, and short enough for a table."""
    line = " ".join(text.split()).rstrip(".")
    return f"{line}." if len(line) <= GOT else f"{line[:GOT]}…"


class Reason(NamedTuple):
    """Why a run ended without a result."""

    text: str
    """One sentence."""
    record: StepRecord
    """Of the step that it ended in."""

    @property
    def cancelled_text(self) -> str:
        """The same of a run that was perhaps cancelled, which a step has less than a second to write down."""
        record = self.record
        if record.state != "running" or (record.memory and record.memory.near):
            return self.text
        return (
            f"stopped in {record.title}: the run was cancelled, or the step was killed. Its log: {record.log}"
        )


def write_step(store: Storage, run: str, record: StepRecord) -> None:
    text = record.model_dump_json(indent=2, exclude_defaults=True)
    store.write(layout.run_key(run, record.key), text.encode())


def read_steps(store: Storage, run: str) -> list[StepRecord]:
    """What the steps of a run have left, in the order in which they began; one that is damaged says nothing.

    Raises StoreError where the store cannot be read.
    """
    records = []
    for found in store.list(layout.run_key(run, layout.STEPS)):
        try:
            records.append(StepRecord.model_validate_json(store.read(found.key)))
        except (KeyError, ValidationError):
            continue
    return sorted(records, key=lambda record: (record.began, record.shard))


def find_reason(records: Sequence[StepRecord]) -> Reason | None:
    """Why a run that is over ended without a result, as far as its steps could tell.

    One that says what it failed by counts more than one that was killed or stopped, perhaps because of it.
    None where every step that left something ended well.
    """

    def rank(record: StepRecord) -> int:
        if record.state == "failed":
            return 0 if record.error else 1
        if record.state == "running":
            return 2 if record.memory and record.memory.near else 4
        return 3

    ended = [record for record in records if record.state != "done"]
    if not ended:
        return None
    record = min(ended, key=lambda one: (rank(one), one.ended or one.began))
    return Reason(record.reason, record)
