"""The answers of a flight, kept as they go over the wire: two fifths of what they take as objects."""

from array import array
from collections.abc import Iterator, Sequence
from typing import overload

from edge.transport.messages import Classification, pack, unpack


class KeptAnswers(Sequence[Classification]):
    """Answers in the order in which they were given. Whoever takes one gets an object of its own."""

    def __init__(self) -> None:
        """Begin with none."""
        self._data = bytearray()
        self._ends = array("Q")
        """Of each answer in the data."""

    def append(self, answer: Classification) -> None:
        """Keep one more."""
        self._data += pack(answer)
        self._ends.append(len(self._data))

    def __len__(self) -> int:
        return len(self._ends)

    def __iter__(self) -> Iterator[Classification]:
        return (self._at(place) for place in range(len(self._ends)))

    @overload
    def __getitem__(self, place: int) -> Classification: ...
    @overload
    def __getitem__(self, place: slice) -> list[Classification]: ...
    def __getitem__(self, place: int | slice) -> Classification | list[Classification]:
        places = range(len(self._ends))[place]
        return self._at(places) if isinstance(places, int) else [self._at(one) for one in places]

    def _at(self, place: int) -> Classification:
        begin = self._ends[place - 1] if place else 0
        return unpack(bytes(self._data[begin : self._ends[place]]), Classification)
