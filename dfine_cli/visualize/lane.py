"""A bounded queue between two threads that either side can end: what lets stages of work overlap in order."""

from __future__ import annotations

from collections import deque
from threading import Condition
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Lane(Generic[Item]):
    """Items on their way from one thread to the next, in order.

    Args:
        room: Items that fit.
        newest: Where there is no room, drop the oldest item instead of waiting: for sources that do not wait.
    """

    def __init__(self, room: int, newest: bool = False) -> None:
        self._items: deque[Item] = deque()
        self._room, self._newest = room, newest
        self._change = Condition()
        self._closed = False

    def put(self, item: Item) -> bool:
        """Hand on an item, waiting for room; False if the lane was closed, and the sender may stop."""
        with self._change:
            while len(self._items) >= self._room and not self._newest and not self._closed:
                self._change.wait()
            if self._closed:
                return False
            if len(self._items) >= self._room:
                self._items.popleft()
            self._items.append(item)
            self._change.notify_all()
            return True

    def take(self, most: int = 1) -> list[Item]:
        """The next items, at most ``most``: as many as are there, waiting for the first; [] at the end."""
        with self._change:
            while not self._items and not self._closed:
                self._change.wait()
            taken = [self._items.popleft() for _ in range(min(most, len(self._items)))]
            self._change.notify_all()
            return taken

    def close(self, *, drop: bool = False) -> None:
        """Nothing more will be put; what is inside can still be taken, unless it is dropped."""
        with self._change:
            self._closed = True
            if drop:
                self._items.clear()
            self._change.notify_all()
