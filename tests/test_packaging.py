import ast
import configparser
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from diffmm_pyg import doctor

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / 'diffmm_pyg'

# Imports modules with some packages missing and without a network:
IMPORT_ALL = '''
import importlib, socket, sys

class Without:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] not in {blocked!r}:
            return self.finder.find_spec(name, path, target)

def refuse(*args, **kwargs):
    raise AssertionError('a connection was opened at import')

sys.meta_path[:] = map(Without, sys.meta_path)
socket.socket.connect = socket.create_connection = refuse
for name in {modules!r}:
    importlib.import_module(name)
'''


@pytest.fixture(scope='module')
def config():
    config = configparser.RawConfigParser()
    assert config.read(ROOT / 'setup.cfg')
    return config


def requirements(text):
    return [line for line in text.strip().splitlines() if line[:1] != '#']


def names(text):
    return {re.match(r'[\w-]+', line)[0] for line in requirements(text)}


@pytest.mark.parametrize('blocked', [
    ('accelerate', 'safetensors', 'matplotlib', 'pyarrow', 'pytest',
     'hypothesis', 'pandas', 'sklearn', 'faiss', 'optuna'),
    ('torch_sparse', 'torch_scatter', 'pyg_lib'),
])
def test_import_needs_no_optional_package_and_no_network(blocked):
    modules = ['.'.join(path.relative_to(ROOT).with_suffix('').parts)
               for path in sorted(PACKAGE.rglob('*.py'))
               if path.name not in ['__init__.py', '__main__.py']]
    code = IMPORT_ALL.format(blocked=blocked, modules=modules)
    child = subprocess.run([sys.executable, '-W', 'ignore', '-c', code],
                           capture_output=True, text=True, cwd=ROOT)
    assert child.returncode == 0, child.stderr


def test_every_folder_of_the_package_is_found_by_setup_cfg():
    for folder in {path.parent for path in PACKAGE.rglob('*.py')}:
        assert (folder / '__init__.py').exists(), folder


def test_only_four_plain_requirements_and_exact_pins(config):
    assert names(config['options']['install_requires']) == {
        'torch', 'torch-geometric', 'numpy', 'scipy'}
    assert requirements(config['options.extras_require']['sparse']) == [
        'torch-scatter==2.1.2', 'torch-sparse==0.6.18']


def test_doctor_names_the_extras_of_setup_cfg(config):
    extras = config['options.extras_require']
    for package, extra in doctor.EXTRAS.items():
        assert package in names(extras[extra])


def missing_extra_errors():
    for path in sorted(PACKAGE.rglob('*.py')):
        for node in ast.walk(ast.parse(path.read_text())):
            if (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
                    and node.func.id == 'MissingExtraError'):
                kwargs = {k.arg: k.value for k in node.keywords}
                args = dict(zip(['package', 'extra'], node.args), **kwargs)
                yield f'{path.name}:{node.lineno}', args


def test_errors_name_an_extra_that_installs_the_package(config):
    extras = config['options.extras_require']
    for place, args in missing_extra_errors():
        if isinstance(args['extra'], ast.Constant):
            extra = args['extra'].value
            assert extra in extras, place
            if isinstance(args['package'], ast.Constant):
                package = args['package'].value.replace('_', '-')
                assert package in names(extras[extra]), place


def test_version_is_a_literal_that_setup_cfg_reads(config):
    assert config['metadata']['version'] == 'attr: diffmm_pyg.__version__'
    tree = ast.parse((PACKAGE / '__init__.py').read_text())
    values = [node.value.value for node in tree.body
              if isinstance(node, ast.Assign)
              and node.targets[0].id == '__version__']
    assert len(values) == 1
    assert re.fullmatch(r'\d+\.\d+\.\d+', values[0])


def test_no_code_in_the_top_level_folder_of_data():
    # With an `__init__.py` it would hide Hugging Face's `datasets`.
    assert not list((ROOT / 'datasets').glob('*.py'))


@pytest.fixture
def setup_env(monkeypatch):
    spec = importlib.util.spec_from_file_location('setup_env',
                                                  ROOT / 'setup_env.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module.platform, 'machine', lambda: 'x86_64')
    return module


@pytest.mark.parametrize('plus', ['+', '%2B'])
def test_setup_finds_binaries_only_where_both_are(setup_env, monkeypatch,
                                                  plus):
    scatter = f'torch_scatter-2.1.2{plus}pt212cpu-cp311-cp311-{{}}.whl\n'
    sparse = f'torch_sparse-0.6.18{plus}pt212cpu-cp311-cp311-{{}}.whl\n'
    linux, arm, windows = 'linux_x86_64', 'linux_aarch64', 'win_amd64'
    url = 'https://data.pyg.org/whl/torch-2.12.0+cpu.html'
    for text, cp, expected in [
        (scatter.format(linux) + sparse.format(linux), 'cp311', url),
        (scatter.format(linux) + sparse.format(linux), 'cp312', None),
        (scatter.format(linux), 'cp311', None),
        (scatter.format(linux) + sparse.format(arm), 'cp311', None),
        (scatter.format(windows) + sparse.format(windows), 'cp311', None),
        ('', 'cp311', None),
    ]:
        monkeypatch.setattr(setup_env, 'page', {url: text}.get)
        assert setup_env.binaries(cp, '2.12.0', 'cpu') == expected


def test_setup_keeps_the_torch_that_setup_cfg_admits(setup_env):
    assert [v for v in ['2.12.1', '2.13.0', '2.13.1+cpu', '2.14.1', '3.0.0']
            if setup_env.supported(v)] == ['2.13.0', '2.13.1+cpu']
    assert all(map(setup_env.supported, setup_env.TORCH))
