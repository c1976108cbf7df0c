"""What a network takes on this machine."""

import subprocess
import sys

from defectline.pipeline.tuning.measuring import LEAST, WARM_UP, time_calls


def test_the_median_of_calls_without_those_that_warm_up():
    now, called = [0.0], []

    def call(number: int) -> None:
        called.append(number)
        # The first ones are slow, and one in ten is.
        now[0] += 9.0 if len(called) <= WARM_UP or number % 10 == 9 else 0.25

    assert time_calls(call, clock=lambda: now[0]) == 0.25
    assert called[WARM_UP:] == list(range(LEAST))


def test_the_most_memory_counts_what_is_given_back():
    """In a process of its own: this one may have held more before."""
    told = "print(most_memory_mb()); block = b'x' * 200_000_000; del block; print(most_memory_mb())"
    code = f"from defectline.pipeline.tuning.measuring import most_memory_mb; {told}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, after = map(float, done.stdout.split())
    assert before + 190 < after < before + 400
