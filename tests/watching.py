"""A watcher at work in a test: its last picture, all of its events, and waiting for either."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Self

from agent.model import Event, Sample


class Watching:
    """`async with`: runs the watcher, from its first picture on."""

    def __init__(self, watcher: Any) -> None:
        self.watcher = watcher
        self.picture: list[Sample] = []
        self.events: list[Event] = []

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        await self.until(lambda: bool(self.picture))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        async with contextlib.aclosing(self.watcher.watch()) as pictures:
            async for picture in pictures:
                self.events += [seen for seen in picture if isinstance(seen, Event)]
                self.picture = [seen for seen in picture if isinstance(seen, Sample)] or self.picture

    async def until(self, condition: Callable[[], bool]) -> None:
        for _ in range(3000):
            if condition():
                return
            if self._task.done():
                self._task.result()
            await asyncio.sleep(0.005)
        raise AssertionError(f"it did not come: {self.said()}")

    def said(self) -> object:
        """What a failed wait shows."""
        return self.events
