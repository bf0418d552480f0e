"""Questions that are put once for all who ask at the same moment."""

import asyncio
import gc
from typing import Any

import pytest

from sightline_api.flights import Flights


class Question:
    """Answers when it is told to, and counts how often it was put."""

    def __init__(self, error: Exception | None = None) -> None:
        self.put = 0
        self.broken_off = 0
        self.go = asyncio.Event()
        self._error = error

    async def __call__(self) -> str:
        self.put += 1
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.broken_off += 1
            await turns()  # as a connection that is closed in order
            raise
        if self._error is not None:
            raise self._error
        return f"answer {self.put}"


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def asking(flights: Flights[str, str], question: Question, count: int, key: str = "k") -> list[asyncio.Task[str]]:
    tasks = [asyncio.create_task(flights.ask(key, question)) for _ in range(count)]
    await turns()
    return tasks


async def test_one_question_answers_all_and_the_next_is_put_anew() -> None:
    flights, question = Flights[str, str](), Question()
    tasks = await asking(flights, question, 3)
    assert (question.put, len(flights), flights.waiting, "k" in flights) == (1, 1, 3, True)
    question.go.set()
    assert await asyncio.gather(*tasks) == ["answer 1"] * 3
    assert (len(flights), flights.waiting) == (0, 0)
    assert await flights.ask("k", question) == "answer 2"


async def test_other_keys_are_other_questions() -> None:
    flights, question = Flights[str, str](), Question()
    tasks = [*await asking(flights, question, 2, "a"), *await asking(flights, question, 2, "b")]
    assert (question.put, len(flights)) == (2, 2)
    question.go.set()
    await asyncio.gather(*tasks)


async def test_an_error_is_everybodys_and_is_not_kept() -> None:
    flights, question = Flights[str, str](), Question(ConnectionError("away"))
    tasks = await asking(flights, question, 3)
    question.go.set()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(error) for error in found] == [ConnectionError] * 3
    with pytest.raises(ConnectionError):
        await flights.ask("k", question)
    assert question.put == 2


async def test_who_asked_first_may_leave() -> None:
    flights, question = Flights[str, str](), Question()
    first, *others = await asking(flights, question, 3)
    first.cancel()
    await turns()
    assert first.cancelled()
    assert (question.broken_off, flights.waiting) == (0, 2)
    question.go.set()
    assert await asyncio.gather(*others) == ["answer 1"] * 2


async def test_what_nobody_waits_for_is_broken_off_and_whoever_comes_then_asks_anew() -> None:
    flights, question = Flights[str, str](), Question()
    tasks = await asking(flights, question, 2)
    for task in tasks:
        task.cancel()
    # Before the question itself has ended.
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (len(flights), flights.waiting) == (0, 0)
    (late,) = await asking(flights, question, 1)
    assert (question.put, question.broken_off, len(flights)) == (2, 1, 1)
    question.go.set()
    assert await late == "answer 2"


async def test_an_error_that_nobody_waits_for_any_more_is_no_noise() -> None:
    """It came in the very moment in which the last one left."""
    flights, question = Flights[str, str](), Question(ConnectionError("away"))
    noise: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: noise.append(context))
    (task,) = await asking(flights, question, 1)
    question.go.set()
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await turns()
    del task
    gc.collect()
    assert noise == []
