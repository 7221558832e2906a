"""Can a worker run the commands of a run?

It has to have the same versions of what matters, and to see the workspace if others do:
a file in it has the same content, under the same path.
"""

import asyncio
import platform
from collections.abc import Collection, Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Callable, Optional

from distributed.comm import CommClosedError

if TYPE_CHECKING:
    from distributed import Client

    from .protocol import Terms

PACKAGES = ("dvc", "dvc-parallel")


def versions() -> dict[str, str]:
    """Versions that have to be the same on all machines."""
    return {name: version(name) for name in PACKAGES}


def unfit(terms: "Terms") -> Optional[str]:
    """Why this process cannot run the commands of a run; None if it can."""
    for name in PACKAGES:
        try:
            found: Any = version(name)
        except PackageNotFoundError as exc:
            found = exc
        if reason := _other_version(name, found, terms):
            return reason
    if terms.token is None:
        return None
    try:
        content: Any = content_of(terms.token[0])
    except OSError as exc:
        content = exc
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
    found = await sight(client, rest, terms)
    reasons.update({address: reason for address, reason in found.items() if reason})

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
    client: "Client", workers: Iterable[str], function: Callable[..., Any], *args: Any
) -> Mapping[str, Any]:
    """The result of a function, or its error, on each of some workers.

    Those that have gone meanwhile are left out.
    """
    asked = list(workers)
    if not asked:
        return {}
    answers = await client.run(function, *args, workers=asked, on_error="return")
    return {a: x for a, x in answers.items() if not isinstance(x, CommClosedError)}


def content_of(path: str) -> str:
    with open(path, encoding="utf-8") as fobj:
        return fobj.read()


def _other_version(name: str, found: Any, terms: "Terms") -> Optional[str]:
    expected = terms.versions[name]
    if found == expected:
        return None
    if isinstance(found, PackageNotFoundError):
        return f"has no {name}, but this machine has {expected}"
    if isinstance(found, Exception):
        return f"cannot report its version of {name}: {found!r}"
    return f"has {name} {found}, but this machine has {expected}"


def _other_workspace(found: Any, token: tuple[str, str]) -> Optional[str]:
    path, content = token
    if found == content:
        return None
    if isinstance(found, FileNotFoundError):
        return f"does not see the workspace: it has no {path}"
    if isinstance(found, Exception):
        return f"does not see the workspace: {found}"
    return f"sees another workspace: its {path} is not the same file"
