"""Nothing grows past what a reader holds in mind: files, functions, parameters, settings."""

import ast

FILE_LINES, FUNCTION_LINES, PARAMETERS, SETTINGS = 400, 60, 8, 12


def long_files(sources):
    return [source.path for source in sources if len(source.text.splitlines()) > FILE_LINES]


def functions(source):
    """(qualified name, node) of every function, nested ones included."""

    def walk(node, prefix):
        for child in ast.iter_child_nodes(node):
            named = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            name = f"{prefix}{child.name}" if named else prefix
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                yield name, child
            yield from walk(child, f"{name}." if named else prefix)

    yield from walk(source.tree, "")


def long_functions(sources):
    """Lines are counted from the def line; the docstring counts, decorators do not."""
    return [
        f"{source.path}:{name}"
        for source in sources
        for name, node in functions(source)
        if node.end_lineno - node.lineno + 1 > FUNCTION_LINES
    ]


def many_parameters(sources):
    return [
        f"{source.path}:{name}"
        for source in sources
        for name, node in functions(source)
        if len(parameters_of(node)) > PARAMETERS
    ]


def parameters_of(function):
    arguments = function.args
    named = [item.arg for item in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    starred = [item.arg for item in (arguments.vararg, arguments.kwarg) if item is not None]
    # A leading underscore marks what the caller hands over and the function does not read.
    return [name for name in (*named, *starred) if name not in ("self", "cls") and not name.startswith("_")]


def large_settings(sources):
    """A settings class is one with a field made by core.settings.setting; all its fields count, constants do not."""
    classes = [(source, node) for source in sources for node in ast.walk(source.tree) if isinstance(node, ast.ClassDef)]
    found = []
    for source, node in classes:
        fields = [item for item in node.body if isinstance(item, ast.AnnAssign)]
        fields = [field for field in fields if "ClassVar" not in ast.unparse(field.annotation)]
        if any(is_setting(field.value) for field in fields) and len(fields) > SETTINGS:
            found.append(f"{source.path}:{node.name}")
    return found


def is_setting(value):
    return isinstance(value, ast.Call) and ast.unparse(value.func).split(".")[-1] == "setting"


def test_files(sources, hold):
    hold("file length", long_files(sources))


def test_functions(sources, hold):
    hold("function length", long_functions(sources))


def test_parameters(sources, hold):
    # Tests stand in for functions of other libraries, which have as many as they have.
    hold("parameters", many_parameters(source for source in sources if not source.path.startswith("tests/")))


def test_settings(sources, hold):
    hold("settings", large_settings(sources))


def test_file_rule_can_fail(snippet):
    assert long_files([snippet("x = 1\n" * 400)]) == []
    assert long_files([snippet("x = 1\n" * 401)]) == ["trimpot/offender.py"]


def test_function_rule_can_fail(snippet):
    def source(lines):
        return snippet("class A:\n    @cached\n    def run(self):\n" + "        x = 1\n" * (lines - 1))

    assert long_functions([source(60)]) == []
    assert long_functions([source(61)]) == ["trimpot/offender.py:A.run"]
    nested = snippet("async def outer():\n    def inner():\n" + "        x = 1\n" * 60)
    assert long_functions([nested]) == ["trimpot/offender.py:outer", "trimpot/offender.py:outer.inner"]


def test_parameter_rule_can_fail(snippet):
    eight = snippet("class A:\n    def run(self, a, b, c, d, e, *rest, g, h, **_more): ...")
    assert many_parameters([eight]) == []
    assert many_parameters([snippet("def run(a, b, c, d, e, /, *, f, g, h, i): ...")]) == ["trimpot/offender.py:run"]


def test_settings_rule_can_fail(snippet):
    def source(fields):
        lines = [f"    field_{number}: int = setting({number}, 'meaning')\n" for number in range(fields)]
        return snippet("class A:\n    name: ClassVar[str] = 'a'\n" + "".join(lines))

    assert large_settings([source(12)]) == []
    assert large_settings([source(13)]) == ["trimpot/offender.py:A"]
    assert large_settings([snippet("class A:\n" + "".join(f"    field_{n}: int\n" for n in range(13)))]) == []
