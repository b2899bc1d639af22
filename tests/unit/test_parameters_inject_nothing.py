"""Parameters of notebooks are data: whatever is typed into one, papermill's cell holds literals that say the same."""

import ast
import json
import math

import nbformat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nbformat.v4 import new_code_cell, new_notebook
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

from trackerlib.parameters import from_text, resolved
from trackerlib.stages import load_graph

CELL = """out_dir: str = ""
text: str = ""
items: list = []
names: list[str] = []
table: dict = {}
number: float = 0.0
count: int = 0
maybe: str | None = None
"""
CODE = "__import__('os').system('touch exploded')"
HOSTILE = (
    *(
        '"',
        "'",
        '"""',
        "'''",
        "\\",
        "\\\\",
        '\\"',
        "\n",
        "\r",
        "\r\n",
        "\x85",
        "\u2028",
        "\u2029",
        "\0",
        "\x1a",
        "\x0c",
    ),
    *("{", "}", "{}", "{0.__class__}", "%s", "#", ";", "\t", "\ufeff", "\u202e", "\\N{DASH}", "\\x41", "\\u0041", "\\"),
    *(
        '"\nimport os\n"',
        f'" + {CODE} + "',
        f"' + {CODE} + '",
        f'"); {CODE}; ("',
        "$(id)",
        "`id`",
        "!ls",
        "%run a",
        CODE,
    ),
)
TEXT = st.lists(st.one_of(st.sampled_from(HOSTILE), st.text(max_size=4)), max_size=6).map("".join)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
PLAIN = st.recursive(
    st.one_of(TEXT, FINITE, st.integers(-(2**63) + 1, 2**63 - 1), st.booleans(), st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def notebook(tmp_path_factory):
    tagged = new_code_cell(CELL, metadata={"tags": ["parameters"]})
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path = tmp_path_factory.mktemp("books") / "p.ipynb"
    nbformat.write(new_notebook(cells=[tagged], metadata=kernel), path)
    return path


def injected(notebook, values):
    """What the notebook's kernel is given, sent as `trackerlib.runner` sends it: name to value, if all are literals."""
    sent = json.loads(json.dumps(resolved(notebook, values, "test")).encode())
    book = parameterize_notebook(load_notebook_node(str(notebook)), sent, kernel_name="python3")
    (cell,) = (c for c in book.cells if "injected-parameters" in c.metadata.tags)
    nbformat.writes(book).encode()  # as papermill saves it
    tree, found = ast.parse(cell.source), {}
    for node in tree.body:
        assert isinstance(node, ast.Assign)
        (target,) = node.targets
        found[target.id] = ast.literal_eval(node.value)  # raises for anything that would run
    return found


@settings(max_examples=300, deadline=None)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "text": TEXT,
            "items": st.lists(PLAIN, max_size=3),
            "names": st.lists(TEXT, max_size=3),
            "table": st.dictionaries(TEXT, PLAIN, max_size=3),
            "number": FINITE,
            "count": st.integers(-(2**63) + 1, 2**63 - 1),
            "maybe": st.one_of(st.none(), TEXT),
        },
    )
)
def test_a_cell_holds_literals_that_say_what_was_given(notebook, values):
    found = injected(notebook, values)
    assert {name: found[name] for name in values} == values
    assert all(type(found[name]) is type(value) for name, value in values.items())


@settings(max_examples=300, deadline=None)
@given(TEXT)
def test_text_typed_for_a_text_parameter_stays_text(notebook, typed):
    assert from_text(notebook, "text", typed) == typed
    assert injected(notebook, {"text": typed})["text"] == typed


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(("items", "names", "table", "number", "count", "maybe")), TEXT)
def test_text_typed_for_any_other_parameter_is_a_literal_or_refused(notebook, name, typed):
    value = from_text(notebook, name, typed)
    try:
        found = injected(notebook, {name: value})[name]
    except ValueError as error:
        found, complaint = None, str(error)
        value = None if complaint.startswith("test: ") and "\n" not in complaint else complaint
    assert found == value


@pytest.mark.parametrize(
    "typed", [CODE, f"[{CODE}]", f"{{'a': {CODE}}}", "open('exploded', 'w')", "lambda: 0", f"[x for x in {CODE}]"]
)
def test_code_is_no_literal(notebook, typed, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("items", "table", "number", "count"):
        assert from_text(notebook, name, typed) == typed
        with pytest.raises(ValueError, match=rf"test: {name} = .* is str, want"):
            resolved(notebook, {name: from_text(notebook, name, typed)}, "test")
    for name in ("text", "maybe"):
        assert injected(notebook, {name: from_text(notebook, name, typed)})[name] == typed
    assert list(tmp_path.iterdir()) == []


def test_code_in_a_setting_of_the_command_line_is_refused_before_anything_starts(notebook):
    (notebook.parent / "stages.yaml").write_text("p:\n")
    with pytest.raises(ValueError, match=r"p: count = .* is str, want int"):
        load_graph("smoke", [f"p.count={CODE}"], notebook.parent)
    graph = load_graph("smoke", [f"p.text={CODE}"], notebook.parent)
    assert graph.stages["p"].parameters["text"] == CODE


LOOP: list = []
LOOP.append(LOOP)


@pytest.mark.parametrize(
    "value",
    [
        {('" + ' + CODE + ' + "',): 1},  # papermill would print the tuple between quotes
        {1: "a"},
        {None: "a"},
        {"a": {2.5: "b"}},
        {"a": (1, 2)},
        {"a": {'" + ' + CODE + ' + "'}},
        {"a": b"bytes"},
        {"a": 1j},
        {"a": ...},
        {"a": math.nan},
        {"a": [math.inf]},
        {"a": -math.inf},
        {"a": 10**5000},  # more digits than Python reads back
        {"a": "\ud800"},
        {"\udcff": 1},
        {"a": LOOP},
    ],
)
def test_what_would_not_arrive_is_refused(notebook, value):
    with pytest.raises(ValueError, match=r"^test: table: a value that a notebook cannot be given; it takes [^\n]*$"):
        resolved(notebook, {"table": value}, "test")


@pytest.mark.parametrize("typed", ["{[]: 1}", "(" * 5000, "1" * 5000, "[" * 900 + "]" * 900, "\0", "1e999", "\udcff"])
def test_text_that_pythons_parser_cannot_take_is_refused_in_a_line(notebook, typed):
    with pytest.raises(ValueError, match=r"^test: (items|number)[^\n]*$"):
        resolved(notebook, {"items": from_text(notebook, "items", typed)}, "test")
