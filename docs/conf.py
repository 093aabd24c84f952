"""Sphinx's settings: `sphinx-build -W docs site` (extra `rbjax[docs]`)."""

import pathlib
import re
import shutil

import rbjax

HERE = pathlib.Path(__file__).parent
REPOSITORY = "https://github.com/rbjax/rbjax/blob/main"
EXPERIMENTS = {
    "p1": "rendezvous",
    "p2": "classwise",
    "p3": "delta_accuracy",
    "p4": "datapoints",
    "p5": "imbalanced_gradient_sign",
}
ELSEWHERE = {"rbjax.bridges": ", BlackBox, Partial, Asked, Form"}
"""What a module's page leaves out, since it is of another module."""


def copy_notebooks():
    """Puts the notebooks where Sphinx finds them."""
    shutil.copytree(HERE.parent / "colab", HERE / "colab", dirs_exist_ok=True)


def write_papers():
    """Makes a page of each paper, the README of its experiment."""
    (HERE / "papers").mkdir(exist_ok=True)
    for paper, name in EXPERIMENTS.items():
        text = (HERE.parent / "experiments" / name / "README.md").read_text(encoding="utf-8")
        here = f"../../experiments/{name}/"
        text = re.sub(r"(!\[[^]]*\]\()(?!https?:)", rf"\1{here}", text)
        text = re.sub(
            r"(?<!!)(\[[^]]*\]\()(?!https?:|#)", rf"\1{REPOSITORY}/experiments/{name}/", text
        )
        (HERE / "papers" / f"{paper}.md").write_text(text, encoding="utf-8")


def write_api():
    """Makes a page of each module that api.md lists."""
    (HERE / "api").mkdir(exist_ok=True)
    listed = re.findall(r"^api/(\S+)$", (HERE / "api.md").read_text(encoding="utf-8"), re.MULTILINE)
    for module in listed:
        lines = [f"# {module}", "", "```{eval-rst}"]
        if module == "rbjax":
            lines += [f".. autofunction:: rbjax.{name}" for name in rbjax.FUNCTIONS]
        else:
            left_out = f"Array, Progress{ELSEWHERE.get(module, '')}"
            options = [":members:", ":imported-members:", f":exclude-members: {left_out}"]
            lines += [f".. automodule:: {module}", *(f"   {option}" for option in options)]
        (HERE / "api" / f"{module}.md").write_text("\n".join([*lines, "```", ""]), encoding="utf-8")


copy_notebooks()
write_papers()
write_api()

project = "rbjax"
author = "The rbjax developers"
copyright = author
release = version = rbjax.__version__
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
html_theme = "sphinx_book_theme"
html_title = "rbjax"
html_static_path = ["_static"]
html_css_files = ["narrow.css"]
html_js_files = ["names.js"]
html_theme_options = {
    "repository_url": "https://github.com/rbjax/rbjax",
    "use_repository_button": True,
    "path_to_docs": "docs",
}
nb_execution_mode = "off"  # the notebooks are stored with their outputs, and executed in the tests
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
suppress_warnings = ["ref.python"]  # fields of the same name in several results
autodoc_typehints = "description"
autodoc_member_order = "groupwise"
napoleon_google_docstring = True
napoleon_numpy_docstring = False


def as_rst(app, what, name, obj, options, lines):
    """Makes docstrings, whose `code` is in single backquotes as in Markdown, what Sphinx reads."""
    start = next((i for i, line in enumerate(lines) if line.strip() == "Example:"), len(lines))
    example = lines[start:]  # as it is
    pieces = re.split(r"`([^`]+)`", "\n".join(lines[:start]))
    for i, piece in enumerate(pieces):
        if i % 2:  # a letter may follow, as in `jax.Device`s
            after = "\\ " if pieces[i + 1][:1].isalnum() else ""
            pieces[i] = f"``{' '.join(piece.split())}``{after}"
        else:
            pieces[i] = re.sub(r"([*|]|(?<=\w)_(?!\w))", r"\\\1", piece)
    lines[:] = [*"".join(pieces).split("\n"), *example]


def with_addresses(app, name, source):
    """Lets links to notebooks lead to their pages, and those to other files to the repository."""
    if "/" in name:  # of a page that was made above
        return
    source[0] = source[0].replace("](../colab/", "](colab/")
    source[0] = re.sub(r"(?<!!)(\[[^]]*\]\()\.\./", rf"\1{REPOSITORY}/", source[0])


def setup(app):
    """Has `as_rst` read every docstring before Napoleon does."""
    app.connect("source-read", with_addresses)
    app.connect("autodoc-process-docstring", as_rst, priority=400)
