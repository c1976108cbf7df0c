"""Qualify an endpoint by a study: IQ, OQ, PQ, and what the numbers of the study are."""

import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import combinations
from typing import NamedTuple

from defectline.components.common import layout
from defectline.components.common.errors import SettingsError
from defectline.components.common.prediction import Prediction
from defectline.components.common.storage import Storage, checksums
from defectline.components.common.trust.keys import Trusted
from defectline.components.deploy.rollback import fetched
from defectline.pipeline.qualification.agreement import Agreement, agree, cohen
from defectline.pipeline.qualification.checks import Row, installation, operation
from defectline.pipeline.qualification.endpoint import Endpoint
from defectline.pipeline.qualification.robustness import Change, measure
from defectline.pipeline.qualification.seen import digest, given_twice, known_to_model
from defectline.pipeline.qualification.study import Picture, by_part

AGAIN = re.compile(r":\d+$")
"""Ends the column of a person who sees the pictures again."""


class Pair(NamedTuple):
    """How far two agree, or somebody with themselves."""

    first: str
    second: str
    pictures: int
    """That both judged."""
    alike: int
    kappa: float | None


class Qualification(NamedTuple):
    name: str
    version: str
    installation: list[Row]
    operation: list[Row]
    endpoint: Agreement
    people: dict[str, Agreement]
    """By their column."""
    pairs: list[Pair]
    looks: int
    """Of the endpoint's verdicts."""
    pictures: int
    wrong: list[tuple[Picture, Prediction]]
    """Pictures whose verdict is not the truth."""
    changes: list[Change]
    claim: float
    """The rate of escapes that is claimed."""
    warnings: list[str]
    """What makes the study prove less than it seems to."""

    @property
    def claim_holds(self) -> bool:
        """Whether the study proves that no more escape, with a certainty of 95 %."""
        at_most = self.endpoint.misses.at_most
        return at_most is not None and at_most <= self.claim

    @property
    def passed(self) -> bool:
        """IQ and OQ without a fault, and no rate that is not acceptable."""
        rows = [*self.installation, *self.operation]
        rates = self.endpoint.levels.values()
        return all(row.passed is not False for row in rows) and "not acceptable" not in rates


def qualify(
    client: Endpoint,
    storage: Storage,
    pictures: Sequence[Picture],
    trusted: Sequence[Trusted],
    claim: float,
    varied: int,
    advance: Callable[[], None],
) -> Qualification:
    """Ask the endpoint about every picture of a study, and about variants of the first `varied`.

    `advance` is called for each picture that was read, asked about or varied. Raises as the client does, and
    SettingsError where the endpoint changes its model meanwhile, or the study contradicts itself.
    """
    digests = []
    for one in pictures:
        digests.append(digest(one))
        advance()
    warnings = [*given_twice(pictures, digests)]
    answers = []
    for one in pictures:
        answers.append(client.inspect(one.path, review=False))
        advance()
    version = answers[0].model_version
    if others := {one.model_version for one in answers} - {version}:
        raise SettingsError(
            "The endpoint changed its model during the study.",
            got=", ".join(sorted({version, *others})),
            expected="one version",
            fix="Qualify again while nothing is deployed.",
        )
    first = pictures[0].path.read_bytes()
    with ExitStack() as stack:
        folder = bundle = None
        if storage.exists(f"{layout.model_folder(client.name, version)}/{checksums.NAME}"):
            folder, bundle = stack.enter_context(fetched(storage, client.name, version))
        installed = [*installation(client, version, storage, folder, trusted)]
        operates = [*operation(client, first, folder, bundle)]
        if bundle:
            warnings += known_to_model(storage, bundle.data.snapshot, pictures, digests)
    changes = measure(client, [one.path.read_bytes() for one in pictures[:varied]], advance)
    said = [{**one.said, "": answer.verdict} for one, answer in zip(pictures, answers, strict=True)]
    people = sorted({name for one in pictures for name in one.said})
    return Qualification(
        name=client.name,
        version=version,
        installation=installed,
        operation=operates,
        endpoint=_agreement(pictures, said, [""]),
        people={
            person: _agreement(pictures, said, [name for name in people if AGAIN.sub("", name) == person])
            for person in sorted({AGAIN.sub("", name) for name in people})
        },
        pairs=[_pair(said, *two) for two in combinations(["", *people], 2)],
        looks=sum(one.verdict == "LOOK" for one in answers),
        pictures=len(pictures),
        wrong=[
            (one, answer)
            for one, answer in zip(pictures, answers, strict=True)
            if answer.verdict not in (one.truth, "LOOK")
        ],
        changes=changes,
        claim=claim,
        warnings=warnings,
    )


def _agreement(
    pictures: Sequence[Picture], said: Sequence[dict[str, str]], names: Sequence[str]
) -> Agreement:
    """Of all that these columns say of each part; the endpoint's is called ""."""
    parts = [
        (pictures[places[0]].truth, [said[at][name] for at in places for name in names if name in said[at]])
        for places in by_part(pictures).values()
    ]
    return agree(parts)


def _pair(said: Sequence[dict[str, str]], first: str, second: str) -> Pair:
    both = [(one[first], one[second]) for one in said if first in one and second in one]
    alike = sum(one == other for one, other in both)
    return Pair(first or "endpoint", second, len(both), alike, cohen(both))
