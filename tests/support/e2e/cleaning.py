"""Undo what was made, the last first, whatever fails."""

from collections.abc import Callable


class Cleaner:
    """Collects how things are removed; `clean` does it, and says what is left."""

    def __init__(self) -> None:
        self._steps: list[tuple[str, Callable[[], object]]] = []

    def add(self, what: str, remove: Callable[[], object]) -> None:
        self._steps.append((what, remove))

    def clean(self) -> list[str]:
        """What could not be removed, each with the reason."""
        left = []
        while self._steps:
            what, remove = self._steps.pop()
            try:
                remove()
            except Exception as error:  # whatever it is, the rest must still be removed
                left.append(
                    f"{what} ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})"
                )
        return left
