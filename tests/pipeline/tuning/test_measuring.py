"""What a network takes on this machine."""

from defectline.pipeline.tuning.measuring import LEAST, WARM_UP, most_memory_mb, time_calls


def test_the_median_of_calls_without_those_that_warm_up():
    now, called = [0.0], []

    def call(number: int) -> None:
        called.append(number)
        # The first ones are slow, and one in ten is.
        now[0] += 9.0 if len(called) <= WARM_UP or number % 10 == 9 else 0.25

    assert time_calls(call, clock=lambda: now[0]) == 0.25
    assert called[WARM_UP:] == list(range(LEAST))


def test_the_most_memory_counts_what_is_given_back():
    before = most_memory_mb()
    block = b"x" * 200_000_000
    del block
    assert before + 190 < most_memory_mb() < before + 400
