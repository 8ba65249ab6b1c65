"""A class is abstract or final: nobody has to read two classes to know what one does."""

import ast
import builtins

ABSTRACT = {
    "typing.Protocol",
    "typing.Generic",
    "typing.NamedTuple",
    "typing.TypedDict",
    "abc.ABC",
    "torch.autograd.Function",
    "torch.nn.Module",
    "torch.utils._python_dispatch.TorchDispatchMode",
    "pydantic.BaseModel",
    "sqlalchemy.orm.DeclarativeBase",
    "typer.core.TyperGroup",
    "enum.Enum",
    "enum.StrEnum",
    "lm_eval.api.model.LM",
}
EXCEPTIONS = {
    name for name, value in vars(builtins).items() if isinstance(value, type) and issubclass(value, BaseException)
}


def concrete_bases(sources):
    """Classes that inherit from something that is neither abstract nor an exception: "path:Class(base)"."""
    bases = {}
    for source in sources:
        module, names = source.module, imported_names(source.tree)
        for node in ast.walk(source.tree):
            if isinstance(node, ast.ClassDef):
                own = [qualified(base, names, module) for base in node.bases]
                bases[f"{module}.{node.name}"] = (source.path, node.name, own)
    return [
        f"{path}:{name}({base})"
        for path, name, own in bases.values()
        for base in own
        if not may_be_inherited(base, bases)
    ]


def may_be_inherited(base, bases):
    if base in ABSTRACT or base.rpartition(".")[2] in EXCEPTIONS:
        return True
    if base not in bases:
        return False
    _, _, own = bases[base]
    if any(parent in ABSTRACT for parent in own):
        return True
    return bool(own) and all(is_exception(parent, bases) for parent in own)


def is_exception(base, bases):
    if base.rpartition(".")[2] in EXCEPTIONS:
        return True
    return base in bases and bool(bases[base][2]) and all(is_exception(parent, bases) for parent in bases[base][2])


def imported_names(tree):
    """Name in the file -> what it stands for, dotted."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update({item.asname: item.name for item in node.names if item.asname})
        elif isinstance(node, ast.ImportFrom):
            names.update({item.asname or item.name: f"{node.module}.{item.name}" for item in node.names})
    return names


def qualified(base, names, module):
    text = ast.unparse(base.value if isinstance(base, ast.Subscript) else base)
    head, dot, rest = text.partition(".")
    if head in names:
        return names[head] + dot + rest
    return text if dot or text in EXCEPTIONS else f"{module}.{text}"


def test_no_concrete_class_is_inherited(package, hold):
    hold("inheritance", concrete_bases(package))


def test_the_rule_can_fail(snippet):
    concrete = snippet("class Loop: ...\nclass MyLoop(Loop): ...")
    assert concrete_bases([concrete]) == ["trimpot/offender.py:MyLoop(trimpot.offender.Loop)"]
    foreign = snippet("import torch.nn as nn\nclass Head(nn.Linear): ...")
    assert concrete_bases([foreign]) == ["trimpot/offender.py:Head(torch.nn.Linear)"]


def test_the_rule_sees_through_imports(snippet):
    parent = snippet("class Loop: ...", "trimpot/loop.py")
    child = snippet("from trimpot.loop import Loop as Base\nclass MyLoop(Base): ...")
    assert concrete_bases([parent, child]) == ["trimpot/offender.py:MyLoop(trimpot.loop.Loop)"]


def test_abstract_bases_and_exceptions_are_free(snippet):
    text = (
        "import typing, torch\nfrom typing import Protocol, Generic\nfrom sqlalchemy.orm import DeclarativeBase\n"
        "class Seen(Protocol): ...\nclass Really(Seen): ...\nclass Box(Generic[T]): ...\n"
        "class Tables(DeclarativeBase): ...\nclass Runs(Tables): ...\n"
        "class Wrong(ValueError): ...\nclass VeryWrong(Wrong): ...\nclass Score(torch.autograd.Function): ...\n"
    )
    assert concrete_bases([snippet(text)]) == []
    assert concrete_bases([snippet(text + "class More(Really): ...\n")]) != []
