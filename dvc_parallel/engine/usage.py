"""What a command has used: CPU time, memory, bytes from and to disks."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

# Where a runner that knows it prints the usage of a command that has ended, once for
# each, as UTF-8 JSON: the stream of an `Output` that is neither stdout nor stderr.
USAGE = "usage"

# Seconds of a command whose start is a part of it that counts.
SHORT = 0.1
# No command uses as much of anything; and has more samples than are ever taken.
MOST = 1e18
MOST_SAMPLES = 1000


@dataclass(frozen=True)
class Usage:
    """What commands have used, with all that they have started and waited for.

    Attributes:
        seconds: how long they took.
        cpu: CPU seconds, of the user and the system.
        memory: bytes of all processes together, when that was most, as far as it was
            seen; at least those of the largest one.
        process: bytes of the largest process by itself, by the kernel.
        read, written: bytes that came from disks and went there; not what the page
            cache had.
        out_of_memory: whether the kernel killed something meanwhile, as memory ran out.
        samples: when, in seconds since the start of the command, how many bytes were
            used; of short commands none.

    What is not known is None.
    """

    seconds: float
    cpu: Optional[float] = None
    memory: Optional[int] = None
    process: Optional[int] = None
    read: Optional[int] = None
    written: Optional[int] = None
    out_of_memory: bool = False
    samples: Sequence[tuple[float, int]] = ()

    @property
    def cores(self) -> Optional[float]:
        """How many CPUs were busy on average; not known of short commands."""
        if self.cpu is None or self.seconds < SHORT:
            return None
        return self.cpu / self.seconds

    @property
    def summary(self) -> dict[str, Any]:
        """All but the samples, for scripts; what is not known is null."""
        told: dict[str, Any] = {n: getattr(self, n) for n in ("seconds", *_NUMBERS)}
        for name in ("seconds", "cpu", "cores"):
            value = getattr(self, name)
            told[name] = None if value is None else round(value, 4)
        return {**told, "out_of_memory": self.out_of_memory}

    def as_dict(self) -> dict[str, Any]:
        """What is known of it, for the journal."""
        known = {name: getattr(self, name) for name in ("seconds", *_NUMBERS)}
        known = {name: value for name, value in known.items() if value is not None}
        if self.out_of_memory:
            known["out_of_memory"] = True
        if self.samples:
            known["samples"] = self.samples
        return known

    def to_bytes(self) -> bytes:
        """As it is printed to :data:`USAGE`."""
        return json.dumps(self.as_dict()).encode()


_NUMBERS = {"cpu": float, "memory": int, "process": int, "read": int, "written": int}


def usage_of(data: Any) -> Usage:
    """The usage that ``as_dict`` or ``to_bytes`` tells of, by whomever it was written.

    Raises:
        ValueError, TypeError, KeyError, OverflowError: it makes no sense.
    """
    if isinstance(data, bytes):
        data = json.loads(data)
    if not isinstance(data, Mapping):
        raise TypeError(data)
    known = {
        name: kind(_checked(data[name]))
        for name, kind in _NUMBERS.items()
        if data.get(name) is not None
    }
    samples = [
        (float(_checked(when)), int(_checked(size)))
        for when, size in data.get("samples", ())[:MOST_SAMPLES]
    ]
    return Usage(
        float(_checked(data["seconds"])),
        **known,
        out_of_memory=data.get("out_of_memory") is True,
        samples=samples,
    )


def _checked(value: Any) -> Any:
    if not 0 <= value <= MOST:
        raise ValueError(f"{value} is out of range")
    return value


def together(usages: Iterable[Usage]) -> Optional[Usage]:
    """What several commands have used, one after the other; None if there are none."""
    each = [*usages]
    if len(each) < 2:
        return each[0] if each else None

    def known(name: str) -> list[Any]:
        return [v for one in each if (v := getattr(one, name)) is not None]

    def most(name: str) -> Any:
        return max(known(name), default=None)

    def all_of(name: str) -> Any:
        return sum(known(name)) if known(name) else None

    return Usage(
        all_of("seconds"),
        all_of("cpu"),
        most("memory"),
        most("process"),
        all_of("read"),
        all_of("written"),
        any(one.out_of_memory for one in each),
    )


def size(count: Optional[float]) -> str:
    """Bytes as users read them, such as "1.5 GiB"; "-" if they are not known."""
    if count is None:
        return "-"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            break
        count /= 1024
    return (
        f"{count:.0f} {unit}" if count >= 10 or unit == "B" else f"{count:.1f} {unit}"
    )
