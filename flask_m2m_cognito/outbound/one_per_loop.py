"""A wait on a thread that the coroutines of an event loop share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")


class OnePerLoop:
    """Has one coroutine of each event loop wait on a thread, and the others for that one.

    A loop has few threads for all that it runs beside itself, such as looking up addresses.
    """

    def __init__(self) -> None:
        self._under_way: dict[asyncio.AbstractEventLoop, asyncio.Future[None]] = {}

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
                return await self._on_a_thread(loop, waiting)
            # Not the future itself, which ends with the first coroutine that is cancelled.
            await asyncio.wait({under_way})
        return value

    async def _on_a_thread(self, loop: asyncio.AbstractEventLoop, waiting: Callable[[], T]) -> T:
        import asyncio

        self._under_way[loop] = done = loop.create_future()
        try:
            return await asyncio.to_thread(waiting)
        finally:
            del self._under_way[loop]
            done.set_result(None)
