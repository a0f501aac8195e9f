"""What a watch remembers of the changes that it delivered."""

from __future__ import annotations

from changelogd.entity import Key, Record

# With keys of the largest size they take about 15 MiB.
_MOST_ENTITIES = 10_000


class Delivered:
    """The entities that were delivered after the newest token, each with its last record.

    A watch that resumes gets them again, as far as the log still has them. `overflowed` says that an entity was
    delivered and is not remembered. Then the token can't be used.
    """

    def __init__(self) -> None:
        self.overflowed = False
        # What tells two records of an entity apart, because an offset may have another record after an unclean
        # election. And in which attempt it came, because what comes again must come in one of them.
        self._records: dict[Key, tuple[tuple[object, ...], int]] = {}
        self._attempt = 0

    def begin_attempt(self) -> None:
        self._attempt += 1

    def clear(self) -> None:
        """A newer token covers what came before."""
        self._records.clear()
        self.overflowed = False

    def is_new(self, record: Record) -> bool:
        """Remembers a record. False if the last delivered one of its entity was the same."""
        version = (record.offset, record.timestamp, record.value is None, hash(record.value))
        known = self._records.get(record.key)
        if known is not None or len(self._records) < _MOST_ENTITIES:
            self._records[record.key] = (version, self._attempt)
        else:
            self.overflowed = True
        return known is None or known[0] != version

    def is_whole(self) -> bool:
        """True if each remembered entity has come in this attempt."""
        return all(attempt == self._attempt for _, attempt in self._records.values())
