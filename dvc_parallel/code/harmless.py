"""Things whose use, when a module is imported, changes nothing elsewhere.

The lists are for code that is written often; what is not in them counts as having an
effect, and then its statement counts for everybody who imports its module.
"""

from collections.abc import Sequence


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Packages whose classes do nothing when they get a subclass.
_BASES = words(
    """
    abc argparse ast asyncio attr attrs builtins cmd collections concurrent
    contextlib csv dataclasses datetime enum html http io json keras lightning
    logging multiprocessing numbers numpy pandas pickle pydantic pydantic_settings
    pytorch_lightning queue random scipy sklearn socketserver string tensorflow
    threading torch torch_geometric torchvision tqdm transformers types typing
    typing_extensions unittest yaml
    """
)
# Packages, and things in them, that make a function or class of another one.
_DECORATORS = words(
    """
    abc attr attrs backoff beartype builtins.classmethod builtins.property
    builtins.staticmethod contextlib dataclasses enum functools jax.checkpoint
    jax.jit jax.vmap numba pydantic retry tenacity tensorflow.function torch.compile
    torch.enable_grad torch.inference_mode torch.jit.script torch.no_grad tqdm
    typeguard typing typing_extensions
    """
)
# Those that make a value, or look something up.
_CALLS = words(
    """
    argparse.ArgumentParser attr.field attr.ib attrs.field collections
    contextvars.ContextVar copy dataclasses.field datetime decimal enum fractions
    functools.lru_cache functools.partial inspect.getfile inspect.signature
    itertools json.dumps json.loads logging.getLogger math numpy.arange numpy.array
    numpy.asarray numpy.dtype numpy.eye numpy.finfo numpy.float32 numpy.float64
    numpy.full numpy.geomspace numpy.int32 numpy.int64 numpy.linspace numpy.log
    numpy.logspace numpy.ones numpy.sqrt numpy.zeros operator os.cpu_count
    os.environ.copy os.environ.get os.fspath os.getcwd os.getenv os.path
    pandas.DataFrame pandas.Index pandas.Series pandas.Timedelta pandas.Timestamp
    pandas.to_datetime pathlib platform pydantic.ConfigDict pydantic.Field
    re.compile re.escape string struct textwrap threading.Lock threading.RLock
    threading.local torch.cuda.is_available torch.device torch.ones torch.tensor
    torch.zeros types typing typing_extensions uuid weakref
    """
)
# Methods that change nothing, whatever they are called on.
METHODS = words(
    """
    absolute as_posix casefold copy decode encode endswith exists expanduser format
    get getenv index is_dir is_file items join joinpath keys lower lstrip
    removeprefix removesuffix replace resolve rsplit rstrip split splitlines
    startswith strip title upper values with_name with_suffix
    """
)
_BUILTIN_CALLS = words(
    """
    Exception ValueError abs all any bool bytearray bytes chr complex dict divmod
    enumerate float format frozenset hasattr hash hex int isinstance issubclass iter
    len list max min object oct ord pow property range repr reversed round set slice
    sorted str sum super tuple type zip
    """
)


def is_harmless(how: str, module: str, chain: Sequence[str]) -> bool:
    """Whether something that is not the project's has no effect.

    Args:
        how: it is used: as "call", "method", "decorator", "factory" of one, or "base".
        module: where it is.
        chain: its name, and attributes of it.
    """
    if how == "method":
        if module == "builtins" or not chain:
            return True
        how = "call"
    if how == "call" and module == "builtins":
        return len(chain) == 1 and chain[0] in _BUILTIN_CALLS
    listed = {"base": _BASES, "call": _CALLS}.get(how, _DECORATORS)
    path = ".".join([module, *chain])
    while path:
        if path in listed:
            return True
        path = path.rpartition(".")[0]
    return False
