"""Who imports whom: no cycles, no torch where a reader of results has no use for it, a layer for every package."""

import ast
import graphlib
import re
import subprocess
import sys
import tomllib

import pytest

WITHOUT_TORCH = ("detectors", "statistics", "store", "site", "doctor", "knobs")
# Packages that import torch themselves.
TORCH = ("torch", "transformers", "peft", "safetensors.torch", "trl", "accelerate")


def import_graph(sources):
    """Module -> the modules it imports, ours and others'.

    Imports inside functions count: put off, a cycle is still a cycle. Those under TYPE_CHECKING do not.
    """
    modules = {source.module for source in sources}
    return {source.module: set(imports_of(source, modules)) for source in sources}


def imports_of(source, modules):
    package = source.module if source.path.endswith("/__init__.py") else source.module.rpartition(".")[0]
    for node in without_type_checking(source.tree):
        if isinstance(node, ast.Import):
            yield from (item.name for item in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                base = ".".join([*parts[: len(parts) - node.level + 1], *([node.module] if node.module else [])])
            for item in node.names:
                # ``from package import module`` imports the module, ``from module import name`` the module too.
                yield f"{base}.{item.name}" if f"{base}.{item.name}" in modules else base


def without_type_checking(node):
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test).split(".")[-1] == "TYPE_CHECKING":
            for other in child.orelse:
                yield from (other, *without_type_checking(other))
            continue
        yield child
        yield from without_type_checking(child)


def cycles(graph):
    """One cycle as "a > b > a" if there is any."""
    ours = {module: {name for name in imported if name in graph} for module, imported in graph.items()}
    try:
        graphlib.TopologicalSorter({module: names - {module} for module, names in ours.items()}).prepare()
    except graphlib.CycleError as error:
        return [" > ".join(reversed(error.args[1]))]
    return []


def torch_below(graph, packages):
    """Modules of these packages that import torch, or import a module of ours that does: "module > … > torch"."""
    found = []
    for module in sorted(graph):
        if module.split(".")[1:2] and module.split(".")[1] in packages:
            path = path_to_torch(graph, module)
            if path:
                found.append(" > ".join(path))
    return found


def path_to_torch(graph, start):
    paths, seen = [[start]], {start}
    while paths:
        path = paths.pop(0)
        for name in sorted(graph.get(path[-1], ())):
            if any(name == torch or name.startswith(torch + ".") for torch in TORCH):
                return [*path, name]
            # Importing a module runs the __init__ of the packages it lies in.
            parts = name.split(".")
            for step in (".".join(parts[:count]) for count in range(2, len(parts) + 1)):
                if step in graph and step not in seen:
                    seen.add(step)
                    paths.append([*path, step])
    return []


def without_layer(packages, layers):
    """Packages that no layer names, and layers in parentheses (not written yet) that are there."""
    names = {name: optional for layer in layers for optional, name in re.findall(r"(\()?trimpot\.(\w+)", layer)}
    missing = [f"{name} has no layer" for name in packages if name not in names]
    return missing + [f"{name} is there: drop its parentheses" for name in packages if names.get(name)]


def test_no_cycles(package, hold):
    hold("import cycles", cycles(import_graph(package)))


def test_no_torch_in_packages_that_read_results(package, hold):
    hold("torch", torch_below(import_graph(package), WITHOUT_TORCH))


def test_core_imports_torch_in_one_module(package):
    graph = {module: names for module, names in import_graph(package).items() if module.startswith("trimpot.core")}
    assert [module for module, names in graph.items() if "torch" in names] == ["trimpot.core.tensors"]


def test_every_package_has_a_layer(root, hold):
    contract = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]
    packages = sorted(file.parent.name for file in (root / "trimpot").glob("*/__init__.py"))
    hold("layers", without_layer(packages, contract["layers"]))


@pytest.mark.parametrize("module", ["trimpot", "trimpot.cli.main"])
def test_no_torch_below_the_command_line(module):
    code = f"import sys, {module}; print([name for name in {TORCH} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_cycle_rule_can_fail(snippet):
    first = snippet("from trimpot.b import x", "trimpot/a.py")
    second = snippet("def f():\n    import trimpot.a", "trimpot/b.py")
    assert cycles(import_graph([first, second])) in (
        ["trimpot.a > trimpot.b > trimpot.a"],
        ["trimpot.b > trimpot.a > trimpot.b"],
    )
    relative = snippet("from .a import y", "trimpot/b.py")
    assert cycles(import_graph([first, relative])) != []


def test_cycle_rule_leaves_type_checking_out(snippet):
    first = snippet("from trimpot import b", "trimpot/a.py")
    second = snippet("if TYPE_CHECKING:\n    from trimpot.a import A", "trimpot/b.py")
    assert cycles(import_graph([first, second])) == []


def test_torch_rule_can_fail(snippet):
    store = snippet("from trimpot.core.tensors import Batch", "trimpot/store/x.py")
    tensors = snippet("def f():\n    from torch import Tensor", "trimpot/core/tensors.py")
    graph = import_graph([store, tensors])
    assert torch_below(graph, ["store"]) == ["trimpot.store.x > trimpot.core.tensors > torch"]
    assert torch_below(graph, ["site"]) == []


def test_torch_rule_sees_a_package_init(snippet):
    site = snippet("from trimpot.models.names import NAME", "trimpot/site/x.py")
    models = snippet("import transformers", "trimpot/models/__init__.py")
    names = snippet("NAME = 1", "trimpot/models/names.py")
    graph = import_graph([site, models, names])
    assert torch_below(graph, ["site"]) == ["trimpot.site.x > trimpot.models > transformers"]


def test_layer_rule_can_fail():
    layers = ["trimpot.cli", "trimpot.site | (trimpot.doctor)"]
    assert without_layer(["cli", "site"], layers) == []
    assert without_layer(["cli", "extra"], layers) == ["extra has no layer"]
    assert without_layer(["doctor"], layers) == ["doctor is there: drop its parentheses"]
