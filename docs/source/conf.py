r"""Configuration of Sphinx:

    python -m sphinx -W --keep-going docs/source docs/build
"""
import importlib
import shutil
import sys
import urllib.request
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

from public_names import public_names  # noqa: E402

import diffmm_pyg  # noqa: E402

project = 'diffmm_pyg'
author = 'diffmm_pyg developers'
version = release = diffmm_pyg.__version__

extensions = [
    'sphinx.ext.autodoc',
    'sphinx.ext.autosummary',
    'sphinx.ext.intersphinx',
    'sphinx.ext.mathjax',
    'sphinx.ext.napoleon',
    'sphinx.ext.viewcode',
]
templates_path = ['_templates']
html_theme = 'furo'
html_title = f'diffmm_pyg {release}'
html_show_copyright = False

add_module_names = False
autodoc_inherit_docstrings = False
autodoc_member_order = 'bysource'
autosummary_context = {'public_names': public_names()}
# Without the pages of names that are gone:
shutil.rmtree(HERE / 'generated', ignore_errors=True)
napoleon_custom_sections = ['Shapes']
python_maximum_signature_line_length = 79
python_use_unqualified_type_names = True

# A reference must lead to a page, or to what can be imported (see `exists`):
nitpicky = True
nitpick_ignore = [('py:class', 'optional')]
nitpick_ignore_regex = [
    ('py:obj', '(?s).*'),  # PyG's way to set code in type.
    ('py:class', r'torch_sparse\..*'),  # May be missing.
]
FULL_NAMES = {
    'HeteroData': 'torch_geometric.data.HeteroData',
    'SparseTensor': 'torch_sparse.SparseTensor',
    'np.ndarray': 'numpy.ndarray',
}


def reachable(url):
    try:
        return urllib.request.urlopen(url, timeout=5).status == 200
    except OSError:
        return False


# Links to the pages of others, where there is a network to read their names:
intersphinx_mapping = {
    name: (url, None) for name, url in {
        'python': 'https://docs.python.org/3',
        'numpy': 'https://numpy.org/doc/stable',
        'torch': 'https://docs.pytorch.org/docs/stable',
        'torch_geometric':
        'https://pytorch-geometric.readthedocs.io/en/latest',
    }.items() if reachable(f'{url}/objects.inv')
}


def complete(app, env, node, contnode):
    r"""Completes names that docstrings abbreviate, before they are looked up
    on the pages of others.
    """
    target = node.get('reftarget')
    node['reftarget'] = FULL_NAMES.get(target, target)


def exists(app, domain, node):
    r"""Accepts a name of others without a page, be it that there is no
    network, if it can be imported.
    """
    path, _, name = node['reftarget'].rpartition('.')
    if path.partition('.')[0] == 'diffmm_pyg':
        return None
    try:
        module = importlib.import_module(path or 'builtins')
    except ImportError:
        return None
    return hasattr(module, name) or None


def render(app, docname, source):
    r"""Fills the page of recipes, a template, with those there are."""
    if docname == 'recipes':
        recipes = sorted(p.name for p in HERE.parent.glob('recipes/*.py'))
        source[0] = app.builder.templates.render_string(source[0],
                                                        {'recipes': recipes})


def setup(app):
    app.connect('source-read', render)
    app.connect('missing-reference', complete, priority=400)
    app.connect('warn-missing-reference', exists)
