"""What no file does: code that runs at import, settings in os.environ, pickles, code fetched with a model."""

import ast

PICKLES = ("pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal")
ENVIRON_CHANGES = ("setdefault", "update", "pop", "popitem", "clear", "__setitem__", "__delitem__")


def line(source, node):
    return f"{source.path}:{node.lineno}"


def sets_environment(sources):
    found = []
    for source in sources:
        for node in ast.walk(source.tree):
            targets = []
            if isinstance(node, ast.Assign | ast.Delete):
                targets = node.targets
            elif isinstance(node, ast.AugAssign | ast.AnnAssign):
                targets = [node.target]
            items = [item for target in targets for item in ast.walk(target) if isinstance(item, ast.Subscript)]
            changed = any(is_environ(item.value) for item in items) or any(is_environ(target) for target in targets)
            if changed or (isinstance(node, ast.Call) and changes_environment(node.func)):
                found.append(line(source, node))
    return found


def is_environ(node):
    return ast.unparse(node).split(".")[-1] in ("environ", "environb")


def changes_environment(function):
    if ast.unparse(function) in ("os.putenv", "os.unsetenv", "putenv", "unsetenv"):
        return True
    return isinstance(function, ast.Attribute) and function.attr in ENVIRON_CHANGES and is_environ(function.value)


def unpickles(sources):
    """Imports of a pickle module, torch.load without weights_only=True, allow_pickle other than False."""
    found = []
    for source in sources:
        for node in ast.walk(source.tree):
            names = []
            if isinstance(node, ast.Import):
                names = [item.name for item in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or "", *(f"{node.module}.{item.name}" for item in node.names)]
            pickle = any(name.split(".")[0] in PICKLES or name == "torch.load" for name in names)
            if pickle or (isinstance(node, ast.Call) and call_unpickles(node)):
                found.append(line(source, node))
    return found


def call_unpickles(call):
    given = {item.arg: ast.unparse(item.value) for item in call.keywords}
    if ast.unparse(call.func) == "torch.load" and given.get("weights_only") != "True":
        return True
    return given.get("allow_pickle", "False") != "False"


def trusts_remote_code(sources):
    """trust_remote_code as anything but the constant False, as a keyword or a key."""
    found = []
    for source in sources:
        for node in ast.walk(source.tree):
            given = []
            if isinstance(node, ast.Call):
                given = [item.value for item in node.keywords if item.arg == "trust_remote_code"]
            elif isinstance(node, ast.Dict):
                pairs = zip(node.keys, node.values, strict=True)
                given = [value for key, value in pairs if key is not None and ast.unparse(key) == "'trust_remote_code'"]
            if any(ast.unparse(value) != "False" for value in given):
                found.append(line(source, node))
    return found


def runs_at_import(sources):
    """Statements at the top of a module that do something: loops, with blocks, assertions, and bare calls.

    A call on what the module itself made is part of making it (``app.command()(function)``) and passes.
    """
    return [
        line(source, node)
        for source in sources
        for node in source.tree.body
        if isinstance(node, ast.For | ast.While | ast.With | ast.Assert | ast.Delete)
        or (
            isinstance(node, ast.Expr)
            and not isinstance(node.value, ast.Constant)
            and root_name(node.value) not in made_by(source)
        )
    ]


def root_name(node):
    while isinstance(node, ast.Call | ast.Attribute | ast.Subscript):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def made_by(source):
    """Names that a module assigns at its top."""
    targets = [target for node in source.tree.body if isinstance(node, ast.Assign) for target in node.targets]
    return {target.id for target in targets if isinstance(target, ast.Name)}


def shipped(sources):
    """Tests may break a rule to show what happens."""
    return [source for source in sources if not source.path.startswith("tests/")]


def lines(found):
    return sorted(place.partition(":")[2] for place in found)


def test_nothing_sets_the_environment(sources, hold):
    hold("environment", sets_environment(shipped(sources)))


def test_nothing_unpickles(sources, hold):
    hold("pickle", unpickles(shipped(sources)))


def test_nothing_trusts_remote_code(sources, hold):
    hold("remote code", trusts_remote_code(sources))


def test_nothing_runs_at_import(package, hold):
    hold("import time", runs_at_import(package))


def test_environment_rule_can_fail(snippet):
    text = (
        "import os\nos.environ['A'] = '1'\nos.environ.setdefault('A', '1')\nos.putenv('A', '1')\n"
        "del os.environ['A']\nfrom os import environ\nenviron['A'], x = '1', 2\nos.environ |= {'A': '1'}\n"
    )
    assert lines(sets_environment([snippet(text)])) == ["2", "3", "4", "5", "7", "8"]
    reads = snippet("import os\na = os.environ.get('A')\nb = os.environ['B']\nc = {**os.environ, 'D': '1'}\n")
    assert sets_environment([reads]) == []


def test_pickle_rule_can_fail(snippet):
    text = (
        "import pickle\nfrom joblib import load\ntorch.load('a')\ntorch.load('a', weights_only=False)\n"
        "numpy.load('a', allow_pickle=True)\nfrom torch import load\n"
    )
    assert lines(unpickles([snippet(text)])) == ["1", "2", "3", "4", "5", "6"]
    assert unpickles([snippet("torch.load('a', weights_only=True)\nimport safetensors.torch\n")]) == []


def test_remote_code_rule_can_fail(snippet):
    text = (
        "load('a', trust_remote_code=True)\nload('a', **{'trust_remote_code': yes})\nload('a', trust_remote_code=False)"
    )
    assert lines(trusts_remote_code([snippet(text)])) == ["1", "2"]


def test_import_time_rule_can_fail(snippet):
    text = (
        '"""Words."""\nregister()\nfor x in y: ...\nX = table()\n"""About X."""\n'
        "if TYPE_CHECKING:\n    import z\nX.add()(y)\n"
    )
    assert lines(runs_at_import([snippet(text)])) == ["2", "3"]
