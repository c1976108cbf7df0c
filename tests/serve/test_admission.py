"""Admission: what runs, what waits and what is refused; and how many processors there are."""

import asyncio
import threading
from pathlib import Path

import pytest

from defectline.components.serve.admission import Admission, processors
from defectline.components.serve.protocol.errors import ApiError


class Gate:
    """Work that ends when it is told to."""

    def __init__(self):
        self.open, self.begun = threading.Event(), threading.Semaphore(0)

    def __call__(self) -> str:
        self.begun.release()
        assert self.open.wait(30)
        return "done"


async def _until(condition) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.001)


def test_who_finds_no_room_is_refused_at_once_and_the_others_are_answered():
    async def story() -> None:
        admission, gate = Admission(workers=2, queue=3, deadline_s=60), Gate()
        accepted = [asyncio.create_task(admission.run(gate)) for _ in range(5)]
        await _until(lambda: admission.running() == 2 and admission.waiting() == 3)
        with pytest.raises(ApiError) as refused:
            await admission.run(gate)
        assert refused.value.http == 503
        assert refused.value.retry_after_s == 1
        gate.open.set()
        assert await asyncio.gather(*accepted) == ["done"] * 5
        await _until(lambda: admission.running() == admission.waiting() == 0)
        assert await admission.run(gate) == "done"

    asyncio.run(story())


def test_who_waits_too_long_is_refused_and_leaves_his_place():
    async def story() -> None:
        admission, gate = Admission(workers=1, queue=1, deadline_s=0.05), Gate()
        running = asyncio.create_task(admission.run(gate))
        await _until(lambda: admission.running() == 1)
        with pytest.raises(ApiError, match=r"within 0\.05 s"):
            await admission.run(gate)
        assert admission.waiting() == 0
        gate.open.set()
        assert await running == "done"

    asyncio.run(story())


def test_who_goes_away_frees_his_place_but_never_a_thread_at_work():
    async def story() -> None:
        admission, gate = Admission(workers=1, queue=1, deadline_s=60), Gate()
        running = asyncio.create_task(admission.run(gate))
        await _until(lambda: admission.running() == 1)
        waiting = asyncio.create_task(admission.run(gate))
        await _until(lambda: admission.waiting() == 1)
        for task in (waiting, running):
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert (admission.waiting(), admission.running()) == (0, 1)
        gate.open.set()
        await _until(lambda: admission.running() == 0)

    asyncio.run(story())


def test_large_pictures_share_the_room_and_small_ones_pass_those_that_wait_for_it():
    async def story() -> None:
        admission, begun, gates = Admission(workers=3, queue=4, deadline_s=60, room=50_000_000), [], {}

        def start(name: str, pixels: int) -> asyncio.Task[str]:
            gates[name] = Gate()

            def work() -> str:
                begun.append(name)
                return gates[name]()

            return asyncio.create_task(admission.run(work, pixels))

        tasks = [start("first", 30_000_000)]
        await _until(lambda: begun == ["first"])
        tasks += [start("huge", 50_000_000), start("large", 20_000_000), start("small", 50_000)]
        await _until(lambda: begun == ["first", "small"])
        # There is a thread and room for the large one, but the huge one was there before.
        assert (admission.running(), admission.waiting()) == (2, 2)
        gates["first"].open.set()
        await _until(lambda: begun == ["first", "small", "huge"])
        assert (admission.running(), admission.waiting()) == (2, 1)
        gates["huge"].open.set()
        await _until(lambda: begun[-1] == "large")
        for gate in gates.values():
            gate.open.set()
        assert await asyncio.gather(*tasks) == ["done"] * 4

    asyncio.run(story())


def test_large_pictures_that_wait_for_room_fill_the_queue():
    async def story() -> None:
        admission, gate = Admission(workers=4, queue=1, deadline_s=0.2, room=50_000_000), Gate()
        running = asyncio.create_task(admission.run(gate, 50_000_000))
        await _until(lambda: admission.running() == 1)
        waiting = asyncio.create_task(admission.run(gate, 2_000_000))
        await _until(lambda: admission.waiting() == 1)
        with pytest.raises(ApiError, match="1 requests wait already"):
            await admission.run(gate, 2_000_000)
        admission.check()  # A small one finds a thread.
        with pytest.raises(ApiError, match=r"within 0\.2 s"):
            await waiting
        gate.open.set()
        assert await running == "done"
        await _until(lambda: admission.running() == 0)
        assert await admission.run(gate, 50_000_000) == "done"

    asyncio.run(story())


def test_what_work_raises_comes_through():
    async def story() -> None:
        admission = Admission(workers=1, queue=0, deadline_s=1)
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                await admission.run(lambda: 1 // 0)
            await _until(lambda: admission.running() == 0)

    asyncio.run(story())


def test_work_without_end_is_noticed(monkeypatch):
    monkeypatch.setattr("defectline.components.serve.admission.STUCK_S", 0.01)

    async def story() -> None:
        admission, gate = Admission(workers=1, queue=0, deadline_s=1), Gate()
        assert not admission.stuck
        running = asyncio.create_task(admission.run(gate))
        await _until(lambda: admission.stuck)
        gate.open.set()
        await running
        await _until(lambda: not admission.stuck)

    asyncio.run(story())


@pytest.mark.parametrize(
    ("limit", "expected"),
    [("100000 100000", 1), ("50000 100000", 1), ("max 100000", None), ("", None), (None, None)],
)
def test_processors_of_a_container(tmp_path: Path, limit, expected):
    if limit is not None:
        (tmp_path / "cpu.max").write_text(limit)
    assert processors(tmp_path) == (expected or processors(tmp_path / "none"))


def test_a_model_that_is_asked_all_the_time_does_not_hold_up_the_others():
    async def story() -> None:
        admission, gate, order = Admission(workers=1, queue=3, deadline_s=60), Gate(), []
        running = asyncio.create_task(admission.run(gate, model="busy"))
        await _until(lambda: admission.running("busy") == 1)
        busy = [
            asyncio.create_task(admission.run(lambda n=n: order.append(f"busy {n}"), model="busy"))
            for n in range(3)
        ]
        await _until(lambda: admission.waiting("busy") == 3)
        # Its own queue is full, and no other.
        with pytest.raises(ApiError):
            admission.check("busy")
        admission.check("calm")
        calm = asyncio.create_task(admission.run(lambda: order.append("calm"), model="calm"))
        await _until(lambda: admission.waiting("calm") == 1)
        gate.open.set()
        await asyncio.gather(running, calm, *busy)
        assert order[0] == "busy 0", "equal numbers at work go by time"
        assert order.index("calm") <= 3

    asyncio.run(story())


def test_threads_are_shared_by_models_that_wait():
    async def story() -> None:
        admission, first, others = Admission(workers=2, queue=9, deadline_s=60), Gate(), Gate()
        held = [asyncio.create_task(admission.run(first, model="busy")) for _ in range(2)]
        await _until(lambda: admission.running("busy") == 2)
        waiting = [asyncio.create_task(admission.run(others, model="busy")) for _ in range(4)]
        calm = asyncio.create_task(admission.run(others, model="calm"))
        await _until(lambda: admission.waiting("busy") == 4 and admission.waiting("calm") == 1)
        first.open.set()
        await _until(lambda: admission.running("calm") == 1)
        assert admission.running("busy") <= 1
        others.open.set()
        await asyncio.gather(*held, *waiting, calm)

    asyncio.run(story())
