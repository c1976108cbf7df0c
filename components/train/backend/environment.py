"""What the environment says of the processes that train together: see distributed.py."""

from collections.abc import Mapping
from typing import NamedTuple

from defectline.components.common.errors import SettingsError

ADDRESS, PROCESSES, PROCESS = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"


class Place(NamedTuple):
    """Which process this is, of how many."""

    process: int = 0
    processes: int = 1

    @property
    def first(self) -> bool:
        return self.process == 0


def read_environment(environment: Mapping[str, str]) -> tuple[str, Place] | None:
    """The address where processes meet, and which this one is; None where nothing is said of others.

    Raises SettingsError where something is missing or wrong.
    """
    values = {name: environment.get(name, "") for name in (ADDRESS, PROCESSES, PROCESS)}
    if not any(values.values()):
        return None
    told = ", ".join(f"{name}={value}" for name, value in values.items())
    address, number, index = values.values()
    if not (number.isdigit() and index.isdigit() and int(index) < int(number) and address.rpartition(":")[0]):
        raise SettingsError(
            "The variables that let processes train together do not fit.",
            got=told,
            expected=f"{ADDRESS} host:port, {PROCESSES} 1 or more, and {PROCESS} from 0 to one less",
            fix="Set all three for each process, or none to train in one.",
        )
    if int(number) > 1 and environment.get("KERAS_BACKEND") != "jax":
        raise SettingsError(
            "Only JAX trains in several processes.",
            got=f"{told}, KERAS_BACKEND={environment.get('KERAS_BACKEND', '')}",
            expected="KERAS_BACKEND=jax",
            fix=f"Set KERAS_BACKEND to jax, or unset {PROCESSES}.",
        )
    return address, Place(int(index), int(number))
