"""Can a worker run the commands of a run?

It has to have the same versions of what matters, and to see the workspace if others do:
a file in it has the same content, under the same path.
"""

import asyncio
import platform
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Callable, Optional, Union

import msgpack
from distributed.protocol import Serialize
from distributed.protocol.pickle import dumps

if TYPE_CHECKING:
    from distributed import Client

    from .protocol import Terms

PACKAGES = ("dvc", "dvc-parallel")


@dataclass(frozen=True)
class Failed:
    """A function has raised an error.

    Attributes:
        text: its type and arguments, as Python shows them.
    """

    text: str


def versions() -> dict[str, str]:
    """Versions that have to be the same on all machines."""
    return {name: version(name) for name in PACKAGES}


def unfit(terms: "Terms") -> Optional[str]:
    """Why this process cannot run the commands of a run; None if it can."""
    for name in PACKAGES:
        try:
            found: Union[str, Failed] = version(name)
        except PackageNotFoundError as exc:
            found = Failed(repr(exc))
        if reason := _other_version(name, found, terms):
            return reason
    if terms.token is None:
        return None
    try:
        content: Union[str, Failed] = content_of(terms.token[0])
    except OSError as exc:
        content = Failed(repr(exc))
    return _other_workspace(content, terms.token)


async def examine(
    client: "Client", workers: Collection[str], terms: "Terms"
) -> tuple[dict[str, str], dict[str, str]]:
    """Ask workers what :func:`unfit` asks of a process.

    Args:
        client: of the coordinator; has to be of its event loop.
        workers: their addresses.

    Returns:
        tuple: why workers cannot run commands, by their addresses; and what is to be
        warned of.
    """

    reasons: dict[str, str] = {}
    # NOTE: by functions of Python alone, as ours may not be there
    answers = await asyncio.gather(
        _ask(client, workers, platform.python_version),
        *(_ask(client, workers, version, name) for name in PACKAGES),
    )
    for name, found in zip(PACKAGES, answers[1:]):
        for address, answer in found.items():
            if reason := _other_version(name, answer, terms):
                reasons.setdefault(address, reason)
    rest = [address for address in workers if address not in reasons]
    seen = await sight(client, rest, terms)
    reasons.update({address: reason for address, reason in seen.items() if reason})

    here = platform.python_version()
    warnings = {
        address: f"has Python {python}, but this machine has {here}"
        for address, python in answers[0].items()
        if isinstance(python, str) and python != here
    }
    return reasons, warnings


async def sight(
    client: "Client", workers: Iterable[str], terms: "Terms"
) -> dict[str, Optional[str]]:
    """Why workers do not see the workspace, or None where they do.

    Returns:
        dict: by the addresses of those that are there.
    """
    if terms.token is None:
        return dict.fromkeys(workers)
    answers = await _ask(client, workers, content_of, terms.token[0])
    return {a: _other_workspace(found, terms.token) for a, found in answers.items()}


async def _ask(
    client: "Client", workers: Iterable[str], function: Callable[..., str], *args: Any
) -> Mapping[str, Union[str, Failed]]:
    """The text that a function returns, or its error, on each of some workers.

    Those that have gone meanwhile are left out.
    """
    asked = list(workers)
    if not asked:
        return {}
    message = {
        "op": "run",
        "function": dumps(function),
        "args": dumps(args),
        # NOTE: of replies; by default, they would be pickles
        "deserializers": ["msgpack"],
    }
    scheduler: Any = client.scheduler
    replies = await scheduler.broadcast(msg=message, workers=asked, on_error="ignore")
    return {address: _answer_of(reply) for address, reply in replies.items()}


def _answer_of(reply: Any) -> Union[str, Failed]:
    """What a worker says, which may be anything."""
    try:
        if reply["status"] != "OK":
            return Failed(str(reply["exception_text"]))
        result = reply["result"]
        if isinstance(result, Serialize):  # in this process
            result = result.data
        elif result.header["serializer"] == "msgpack":
            result = msgpack.unpackb(b"".join(map(bytes, result.frames)))
        if isinstance(result, str):
            return result
    except Exception as exc:  # noqa: BLE001
        return Failed(f"{type(exc).__name__}: {exc}")
    return Failed(f"not a text: {str(result)[:100]}")


def content_of(path: str) -> str:
    with open(path, encoding="utf-8") as fobj:
        return fobj.read()


def _other_version(
    name: str, found: Union[str, Failed], terms: "Terms"
) -> Optional[str]:
    expected = terms.versions[name]
    if found == expected:
        return None
    if isinstance(found, Failed):
        if found.text.startswith(PackageNotFoundError.__name__):
            return f"has no {name}, but this machine has {expected}"
        return f"cannot report its version of {name}: {found.text}"
    return f"has {name} {found}, but this machine has {expected}"


def _other_workspace(
    found: Union[str, Failed], token: tuple[str, str]
) -> Optional[str]:
    path, content = token
    if found == content:
        return None
    if isinstance(found, Failed):
        if found.text.startswith(FileNotFoundError.__name__):
            return f"does not see the workspace: it has no {path}"
        return f"does not see the workspace: {found.text}"
    return f"sees another workspace: its {path} is not the same file"
