"""A pipeline of two steps, what it is run with, and what every error about it must say."""

from kfp import dsl

from defectline.components.common.errors import DefectlineError

TOKEN = "eyJhbGciOi-secret"
PARAMETERS: dict[str, object] = {"source": "s3://images/lgp", "epochs": 3, "force": True}


@dsl.component(base_image="python:3.11")
def measure(source: str, epochs: int) -> str:
    return f"{source} {epochs}"


@dsl.component(base_image="python:3.11")
def judge(text: str, force: bool) -> None:
    print(text, force)


@dsl.pipeline(name="tiny")
def tiny(source: str, epochs: int = 10, force: bool = False):
    measured = measure(source=source, epochs=epochs)
    with dsl.If(measured.output != "", name="anything"):
        judge(text=measured.output, force=force)


def assert_helps(error: DefectlineError, *words: str) -> None:
    """All four sentences are there, on one line each, with these words and without the token."""
    text = str(error)
    assert all([error.what, error.got, error.expected, error.fix])
    assert len(text.splitlines()) == 4
    assert TOKEN not in text
    for word in words:
        assert word in text
