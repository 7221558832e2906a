"""A Kedro project: its pipelines, the entries of its catalog, its parameters."""

import copy
import logging
import re
import sys
import traceback
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any, Optional

from . import KedroError

OLDEST = (1, 0)
DEFAULT = "__default__"

_CREDENTIALS = "credentials"


def find(start: Path) -> Path:
    """Return the folder of the Kedro project that a folder belongs to.

    Raises:
        KedroError: there is none, or Kedro is missing or too old.
    """
    try:
        import kedro
    except ImportError:
        raise KedroError(
            "Kedro is not installed here; run `pip install 'dvc-parallel[kedro]'`"
        ) from None
    version = tuple(map(int, re.findall(r"\d+", kedro.__version__)[:2]))
    if version < OLDEST:
        raise KedroError(
            f"Kedro {kedro.__version__} is too old; 1.0 or newer is needed"
        )
    for folder in (start, *start.parents):
        if _is_project(folder / "pyproject.toml"):
            return folder
    raise KedroError(
        f"'{start}' is in no Kedro project: no pyproject.toml with [tool.kedro] "
        "in this folder or above it"
    )


def _is_project(config: Path) -> bool:
    return config.is_file() and "[tool.kedro]" in config.read_text(encoding="utf-8")


@contextmanager
def errors_of_the_project(what: str, root: Path) -> Iterator[None]:
    """Say what an error of the project's own code is, and where, in one line.

    Raises:
        KedroError: instead of whatever the project has raised.
    """
    try:
        yield
    except KedroError:
        raise
    except Exception as exc:
        raise KedroError(f"{what}: {in_one_line(exc, root)}") from exc


def in_one_line(exc: BaseException, root: Path) -> str:
    """What an error is, and where in a project it was raised."""
    causes = [exc]
    while (cause := causes[-1].__cause__) is not None and cause not in causes:
        causes.append(cause)
    first = causes[-1]
    # NOTE: the last one knows which file or module it is about, the first one why
    texts = [" ".join(str(cause).split()) or "no message" for cause in (exc, first)]
    text = texts[1] if first is exc else f"{texts[0].rstrip('.')}: {texts[1]}"
    frames = traceback.extract_tb(first.__traceback__)
    places = [(frame.filename, frame.lineno) for frame in frames]
    if isinstance(first, SyntaxError) and first.filename:
        places.append((first.filename, first.lineno))
    where = _where(places, root)
    # NOTE: of a file elsewhere, the text has the place
    if where and isinstance(first, SyntaxError):
        text = first.msg
    return f"{type(first).__name__}: {text}{where}"


def _where(places: Iterable[tuple[str, Any]], root: Path) -> str:
    """The last place that is in a project, as the end of an error."""
    own = [place for place in places if Path(place[0]).is_relative_to(root)]
    if not own:
        return ""
    name, line = own[-1]
    return f" ({Path(name).relative_to(root).as_posix()}, line {line})"


class KedroProject:
    """A Kedro project with one environment of its configuration.

    Attributes:
        root (Path): its folder.
        source (Path): the folder that has its packages.
        context (KedroContext): what Kedro knows about it in this environment.
    """

    def __init__(self, root: Path, source: Path, context: Any):
        self.root = root
        self.source = source
        self.context = context

    @cached_property
    def conf_catalog(self) -> dict[str, Any]:
        """Entries of the catalog as they are written, without credentials."""
        return without_credentials(self._conf("catalog"))

    @cached_property
    def _resolver(self) -> Any:
        from kedro.framework.project import settings
        from kedro.io.catalog_config_resolver import CatalogConfigResolver

        with errors_of_the_project("the catalog cannot be read", self.root):
            return CatalogConfigResolver(
                self.conf_catalog,
                {},
                settings.DATA_CATALOG_CLASS.default_runtime_patterns,
            )

    def entry(self, dataset: str) -> dict[str, Any]:
        """The entry of a dataset in the catalog, by name or pattern, no credentials."""
        return copy.deepcopy(self._resolver.resolve_pattern(dataset))

    def pattern(self, dataset: str) -> Optional[str]:
        """The key of the catalog that a dataset is defined by, if there is one."""
        if dataset in self.conf_catalog:
            return dataset
        resolver = self._resolver
        return resolver.match_dataset_pattern(
            dataset
        ) or resolver.match_user_catch_all_pattern(dataset)

    def has_credentials(self, dataset: str) -> bool:
        """Whether the catalog gives a dataset credentials."""
        entry = self.context.config_loader["catalog"].get(self.pattern(dataset))
        return without_credentials(entry) != entry

    @cached_property
    def parameters(self) -> dict[str, Any]:
        """All parameters, resolved."""
        return self._conf("parameters")

    def _conf(self, kind: str) -> dict[str, Any]:
        """What the configuration has of a kind, if there are files of it."""
        from kedro.config import MissingConfigException

        with errors_of_the_project(f"the {kind} cannot be read", self.root):
            try:
                return dict(self.context.config_loader[kind])
            except MissingConfigException:
                return {}


def without_credentials(value: Any) -> Any:
    """A copy of a configuration without any entry ``credentials`` in it."""
    if isinstance(value, dict):
        return {
            key: without_credentials(item)
            for key, item in value.items()
            if key != _CREDENTIALS
        }
    if isinstance(value, (list, tuple)):
        return [without_credentials(item) for item in value]
    return value


def load() -> None:
    """Load as much of the project of this folder as Kedro's command line does.

    From then on, lines of a log are whole.

    Raises:
        KedroError: it cannot be loaded.
    """
    root = find(Path.cwd())
    with errors_of_the_project("the project cannot be loaded", root):
        from kedro.framework.startup import bootstrap_project

        _write_plain_logs()
        package = bootstrap_project(root).package_name
        # NOTE: which may have configured it once more
        _write_plain_logs()
        # NOTE: DVC shows its messages itself
        logging.getLogger("dvc").propagate = False
        with suppress(ModuleNotFoundError):
            import_module(f"{package}.cli").cli  # noqa: B018


def _write_plain_logs() -> None:
    """Have no log line cut at 80 columns, where there is no terminal."""
    if sys.stdout.isatty():
        return
    sys.excepthook = sys.__excepthook__
    names = [None, *logging.root.manager.loggerDict]
    for logger in map(logging.getLogger, names):
        for handler in list(logger.handlers):
            if type(handler).__name__ == "RichHandler":
                plain = logging.StreamHandler(sys.stdout)
                plain.setLevel(handler.level)
                plain.setFormatter(
                    logging.Formatter("%(levelname)s %(name)s: %(message)s")
                )
                logger.removeHandler(handler)
                logger.addHandler(plain)


@contextmanager
def session_of(root: Path, env: Optional[str]) -> Iterator[tuple[Any, Path]]:
    """A session of Kedro in a project, which keeps nothing of itself.

    Yields:
        tuple: the session, and the folder of the project's packages.

    Raises:
        KedroError: Kedro cannot load the project.
    """
    with errors_of_the_project("the project cannot be loaded", root):
        from kedro.framework.session import KedroSession

        source = Path(_metadata(root).source_dir)
        session = KedroSession.create(root, save_on_close=False, env=env)
    with session:
        yield session, source


def _metadata(root: Path) -> Any:
    """What Kedro knows of a project before it makes a session in it."""
    import click
    from kedro.framework.startup import bootstrap_project

    # NOTE: its command line has loaded the settings already, and that takes a while
    context = click.get_current_context(silent=True)
    found = context and context.find_root().obj
    if found and found.project_path == root.resolve():
        return found
    return bootstrap_project(root)


@contextmanager
def project_of(root: Path, env: Optional[str]) -> Iterator[KedroProject]:
    """A project in a session of its own."""
    with session_of(root, env) as (session, source):
        with errors_of_the_project("the configuration cannot be loaded", root):
            context = session.load_context()
        yield KedroProject(root, source, context)


def registered_pipelines(root: Path) -> dict[str, Any]:
    """All pipelines of a project by name.

    Kedro only warns of a pipeline that cannot be imported, and goes on without it. Its
    stages would be taken for ones that are gone.

    Raises:
        KedroError: one cannot be loaded.
    """
    from kedro.framework.project import pipelines

    with errors_of_the_project("the pipelines cannot be loaded", root):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = dict(pipelines)
    for warning in caught:
        text = str(warning.message)
        if "find_pipelines" not in text:
            sys.stderr.write(f"WARNING: {text}\n")
            continue
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        files = re.findall(r'File "(.*?)", line (\d+)', text)
        raise KedroError(
            f"the pipelines cannot be loaded: {lines[0]} {lines[-1]}"
            + _where(files, root)
        )
    return found


def selected(pipelines: dict[str, Any], names: Sequence[str]) -> Any:
    """The sum of pipelines.

    Raises:
        KedroError: there is none of a name.
    """
    from kedro.pipeline import Pipeline

    total = Pipeline([])
    for name in names:
        if name not in pipelines:
            known = ", ".join(sorted(pipelines))
            raise KedroError(f"there is no pipeline '{name}'; there are: {known}")
        total += pipelines[name]
    return total
