"""A name in kt.toml is a file in a folder: `kt.<folder>.<name>`, or a dotted path of the user's own.

There is no list to extend and no decorator to remember. A user's own module is looked for in the
workspace's folder first, as Python would in the folder of a script.
"""

import importlib
import pkgutil
import re
import sys
from pathlib import Path
from types import ModuleType

from kt.errors import Invalid

HOLDS = (
    r"^(METRIC\b|def (judge|send|due|collect)\()"  # a family, a gate, a sink, a trigger, a source
)
FILE = r"[A-Za-z_]\w*"
DOTTED = rf"{FILE}(\.{FILE})*"


def load(folder: str, name: str, root: Path, holds: tuple[str, ...]) -> ModuleType:
    """The module called `name`, checked to hold the names that its folder asks for.

    folder: "models" or "registry.gates". root: where a dotted path of the user's own is found.
    Raises Invalid: an unknown name is answered with the names that exist.
    """
    package = importlib.import_module(f"kt.{folder}")
    if re.fullmatch(FILE, name) and is_plugin(package, name):
        module = importlib.import_module(f"kt.{folder}.{name}")
    elif is_own(name, root):
        module = load_own(name, root)
    else:
        raise Invalid(
            f"there is no {name[:64]} in kt/{folder.replace('.', '/')}",
            do=f"there are: {', '.join(names(folder))}; or name a module of your own, in {root}",
        )
    missing = [wanted for wanted in holds if not hasattr(module, wanted)]
    if missing:
        raise Invalid(
            f"{name} is no plugin of kt/{folder.replace('.', '/')}: it lacks {', '.join(missing)}",
            do=f"kt/{folder.replace('.', '/')}/{names(folder)[0]}.py shows what one holds",
        )
    return module


def load_own(name: str, root: Path) -> ModuleType:
    """A module of the user's own. Raises Invalid, whatever it raises."""
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:  # a script without a main ends whoever imports it
        reason = (
            str(error) if isinstance(error, ImportError) else f"{type(error).__name__}: {error}"
        )
        raise Invalid(
            f"{name[:64]} cannot be imported: {reason[:200]}",
            do=f"a dotted path is looked for in {root}",
        ) from error


def is_ours(module: ModuleType) -> bool:
    """Whether a module is kt's, and not the user's own."""
    return module.__name__.partition(".")[0] == "kt"


def is_own(name: str, root: Path) -> bool:
    """Whether a name is a dotted path, or a module that lies in the workspace's folder."""
    if not re.fullmatch(DOTTED, name):
        return False
    return "." in name or (root / f"{name}.py").is_file()


def names(folder: str) -> list[str]:
    """The built-in names of a folder, of those files that are plugins."""
    package = importlib.import_module(f"kt.{folder}")
    return sorted(
        found.name
        for found in pkgutil.iter_modules(package.__path__)
        if is_plugin(package, found.name)
    )


def is_plugin(package: ModuleType, name: str) -> bool:
    """Whether a file says that it is one, read without importing it: by what its folder asks for."""
    path = Path(package.__path__[0]) / f"{name}.py"
    return path.is_file() and re.search(HOLDS, path.read_text(), re.MULTILINE) is not None
