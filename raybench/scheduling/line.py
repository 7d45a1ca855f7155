"""What the workers of one trial tell the trial's process, and what that answers.

In: pickled messages, which nobody looks into here, so that this process has next to nothing to import. Out: the same,
in order, to whoever takes them.
"""

import asyncio


class Line:
    """A Ray actor that needs no CPU; it ends with the process that started it."""

    def __init__(self) -> None:
        self._told: asyncio.Queue[bytes] = asyncio.Queue()
        self._answers: asyncio.Queue[str] = asyncio.Queue()

    async def tell(self, message: bytes) -> None:
        """Take a message that needs no answer."""
        self._told.put_nowait(message)

    async def ask(self, message: bytes) -> str:
        """Take a message and return its answer; one worker alone asks, and waits for each answer."""
        self._told.put_nowait(message)
        return await self._answers.get()

    async def take(self) -> bytes:
        """Return the next message, once there is one."""
        return await self._told.get()

    async def answer(self, text: str) -> None:
        """Answer the message that was asked last."""
        self._answers.put_nowait(text)
