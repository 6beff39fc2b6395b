"""A wait on a thread that the coroutines of an event loop share."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")


class OnePerLoop:
    """Has the coroutines of each event loop wait on one thread for all of them.

    A loop has few threads for all that it runs beside itself, such as looking up addresses.
    """

    def __init__(self) -> None:
        self._under_way: dict[asyncio.AbstractEventLoop, asyncio.Future[Any]] = {}

    async def get(self, at_once: Callable[[], T | None], waiting: Callable[[], T]) -> T:
        """What ``at_once`` gives, else what ``waiting`` gives on a thread.

        Raises:
            what either raises.
        """
        import asyncio  # which whoever runs a coroutine has imported, and others are not to pay for

        loop = asyncio.get_running_loop()
        while (value := at_once()) is None:
            under_way = self._under_way.get(loop)
            if under_way is None:
                return await self._led(loop, waiting)
            # Not the future itself, which would end with the first coroutine that is cancelled.
            await asyncio.wait({under_way})
        return value

    async def get_next(self, check: Callable[[], object], waiting: Callable[[], T]) -> T:
        """Return what ``waiting`` returns on a thread that begins after this call.

        Coroutines that call while such a thread waits share the next one.

        Args:
            check: raises where ``waiting`` would raise without a wait.
            waiting: is called on the thread.

        Raises:
            what either raises.
        """
        import asyncio

        loop = asyncio.get_running_loop()
        before = self._under_way.get(loop)
        while True:
            check()
            under_way = self._under_way.get(loop)
            if under_way is None:
                return await self._led(loop, waiting)
            await asyncio.wait({under_way})
            if under_way is not before and not under_way.cancelled() and under_way.exception() is None:
                return under_way.result()  # type: ignore[no-any-return]

    async def _led(self, loop: asyncio.AbstractEventLoop, waiting: Callable[[], T]) -> T:
        import asyncio

        # Nor is it to end with this one: its thread would go on, and another coroutine would take one more.
        begun = self._begun(loop, waiting)
        await asyncio.wait({begun})
        try:
            return begun.result()
        finally:
            del begun  # which holds an error whose traceback holds this frame

    def _begun(self, loop: asyncio.AbstractEventLoop, waiting: Callable[[], T]) -> asyncio.Future[T]:
        begun = loop.run_in_executor(None, contextvars.copy_context().run, waiting)
        for each in list(self._under_way):
            if each.is_closed():  # before its thread had ended
                self._under_way.pop(each, None)
        self._under_way[loop] = begun

        def end(ended: asyncio.Future[T]) -> None:
            self._under_way.pop(loop, None)
            if not ended.cancelled():
                ended.exception()  # where all who waited were cancelled nobody else asks for it

        begun.add_done_callback(end)
        return begun
