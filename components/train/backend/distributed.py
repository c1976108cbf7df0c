"""Several processes that train one network together, each on its part of every batch. Of JAX alone.

Each is started with three variables, which Kubeflow Trainer's JAX runtime sets as well:

    JAX_COORDINATOR_ADDRESS    host:port of the first process, where the others find it
    JAX_NUM_PROCESSES          how many there are
    JAX_PROCESS_ID             which of them this one is, from 0

All compute the same numbers, so that all go the same way. The first alone writes: checkpoints, trackers and
the model. One that ends early takes the others with it, for they wait for its part of the next step.
"""

import os
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NoReturn

from defectline.components.common.errors import DefectlineError
from defectline.components.common.steps import say
from defectline.components.train.backend.environment import Place, read_environment

START_S = 900
"""So long a process waits for the others to start: an image of several GB may have to be pulled first."""
END_S = 3600
"""So long one that is done waits for the others."""


LOST = re.compile(r"Gloo|NCCL|[Cc]oordination service|[Hh]eartbeat|Connection (reset|closed|refused)")
"""In what JAX says, as errors of several kinds, where another process does not answer."""


class ProcessLost(RuntimeError):
    """Another process ended before training did. All must be started again, and go on together."""


_here = Place()


def place() -> Place:
    """Where this process is among those that train together; alone it is the first of one."""
    return _here


def gather(value: int) -> list[int]:
    """What each process has, in their order: all call this at the same point."""
    if place().processes == 1:
        return [value]
    import numpy as np
    from jax.experimental import multihost_utils

    with explained():
        return [int(each) for each in multihost_utils.process_allgather(np.int32(value))]


@contextmanager
def joined(environment: Mapping[str, str] = os.environ) -> Iterator[None]:
    """Within the block this process is one of those that its `environment` speaks of, or alone.

    Nothing of JAX may have been computed before. Where the block fails the process ends here, without
    waiting for others: they wait for it, and learn of its end by that. Its status is that of SystemExit, 2
    for an error that the user can fix, and else 1. Raises SettingsError for an environment that is wrong.
    """
    found = read_environment(environment)
    if found is None or found[1].processes == 1:
        yield
        return
    import jax

    global _here
    address, here = found
    say(f"train: process {here.process + 1} of {here.processes}, which meet at {address}")
    try:
        jax.distributed.initialize(
            address,
            here.processes,
            here.process,
            initialization_timeout=START_S,
            shutdown_timeout_seconds=END_S,
        )
        _here = here
        yield
        leave()
    except BaseException as error:
        _end(error)


def leave() -> None:
    """There is nothing more to compute together: wait for the others to say so too.

    From then on the end of one does not matter to the others.
    """
    if place().processes > 1:
        import jax

        with explained():
            if jax.distributed.is_initialized():
                jax.distributed.shutdown()


@contextmanager
def explained() -> Iterator[None]:
    """Where processes train together, raise ProcessLost for what JAX raises when one is lost."""
    here = place()
    if here.processes == 1:
        yield
        return
    try:
        yield
    except (RuntimeError, ValueError) as error:
        if not LOST.search(str(error)):
            raise
        raise ProcessLost(
            f"Process {here.process + 1} of {here.processes} cannot go on without the others: one of them "
            "ended, and its own log says why. Started again, all go on from the last checkpoint. "
            f"JAX says: {str(error).splitlines()[0][:300]}"
        ) from error


def _end(error: BaseException) -> NoReturn:
    """End the process at once: what Python does at its end would wait for the other processes."""
    status = 1
    if isinstance(error, SystemExit):
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    elif isinstance(error, DefectlineError):
        print(error, file=sys.stderr)
        status = 2
    elif isinstance(error, ProcessLost):
        say(f"train: {error}")
    else:
        traceback.print_exception(error)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
