#!/usr/bin/env python3
r"""Sets everything up in a virtual environment, then runs or tests it.

    python3 setup_env.py run [OPTIONS]     train on the default data
    python3 setup_env.py test [OPTIONS]    run the test suite in parallel
    python3 setup_env.py doctor            say what it has; train nothing

Further options go to `python -m diffmm_pyg` or `python -m pytest`. The
environment is that of $DIFFMM_VENV, or the active one, or .venv beside this
file. A torch that is already there is kept.
"""
import configparser
import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent
CONFIG = configparser.RawConfigParser()
CONFIG.read(ROOT / 'setup.cfg')
TORCH_RANGE = CONFIG['options']['install_requires'].split()[0]
PINS = re.findall(r'\S+==\S+', CONFIG['options.extras_require']['sparse'])
TORCH = ['2.13.0']  # What the tests passed with, newest first.
TORCH_WHEELS = 'https://download.pytorch.org/whl/cpu'
PYG_WHEELS = 'https://data.pyg.org/whl/torch-{}+{}.html'
RUN = 'train,plots,parquet', 'accelerate safetensors matplotlib pyarrow'
MODES = {  # extras, what they bring, and the command
    'run': (*RUN, '-m diffmm_pyg train'.split()),
    'doctor': (*RUN, '-m diffmm_pyg doctor'.split()),
    'test': ('test', 'accelerate safetensors matplotlib pyarrow pytest '
             'xdist hypothesis ir_measures',
             '-m pytest -n auto --maxprocesses 8 --dist loadfile'.split()),
}
# Fails where something is missing or broken. Of diffmm_pyg only the place
# counts: a mistake in its code is no fault of the environment.
HEALTHY = '''
import torch
from importlib.util import find_spec
assert find_spec('diffmm_pyg').origin.startswith({!r})
assert all(map(find_spec, 'torch_geometric numpy scipy {}'.split()))
'''
PRODUCT = '''
import torch, torch_scatter, torch_sparse
x = torch.eye(2)
adj = torch_sparse.SparseTensor.from_dense(x)
assert torch.equal(torch_sparse.matmul(adj, x), x)
assert torch_scatter.scatter_max(x, torch.tensor([0, 0]), 0)[0].sum() == 2
'''


def say(message):
    print(f'setup: {message}', flush=True)


def die(message):
    sys.exit(f'setup: error: {message}')


def supported(torch):
    low, high = re.findall(r'(\d+)\.(\d+)', TORCH_RANGE)
    major, minor = torch.split('.')[:2]
    return (*map(int, low),) <= (int(major), int(minor)) < (*map(int, high),)


class Env:
    # A virtual environment; `own` if this script may replace it.
    def __init__(self):
        active = sys.prefix if sys.prefix != sys.base_prefix else None
        path = os.environ.get('DIFFMM_VENV') or active or ROOT / '.venv'
        self.path = Path(path).absolute()
        self.own = self.path == ROOT / '.venv'
        self.python = self.path / 'bin' / 'python'
        self.pinned = self.path / 'diffmm-torch.txt'

    def ask(self, code):  # What Python code prints, None if it fails.
        try:
            done = subprocess.run([self.python, '-W', 'ignore', '-c', code],
                                  capture_output=True, text=True, cwd='/')
        except OSError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    def pip(self, task, *args, needed=True, **variables):
        # Its output goes to a file, signs of life come here.
        say(task)
        log = self.path / f"diffmm-{re.sub('[^a-z]+', '-', task)}.log"
        path = f"{self.path / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
        command = [self.python, '-m', 'pip', *args, '--no-input',
                   '--disable-pip-version-check']
        with open(log, 'w') as file, subprocess.Popen(
                command, stdout=file, stderr=file, cwd=ROOT,
                env={**os.environ, 'PATH': path, **variables}) as child:
            minutes = 0
            while child.poll() is None:
                try:
                    child.wait(timeout=60)
                except subprocess.TimeoutExpired:
                    minutes += 1
                    say(f'{task}: {minutes} min so far')
        if child.returncode and needed:
            text = log.read_text()
            offline = re.search('[Cc]onnection|versions: none', text)
            hint = ' (no network?)' if offline else ''
            error = re.findall('^ERROR: (.*)', text, re.M) or ['pip failed']
            die(f'{task}: {error[-1]}{hint}; all output: {log}')
        if child.returncode:
            say(f'{task} failed; all output: {log}')
        return child.returncode == 0

    def create(self):
        if not self.own and self.path.exists() and not (
                self.path / 'pyvenv.cfg').exists():
            die(f'{self.path} (DIFFMM_VENV) is no virtual environment; name '
                'one, or a folder that does not exist yet')
        say(f'creating {self.path}')
        command = [sys.executable, '-m', 'venv', self.path]
        command += ['--clear'] * self.own
        try:  # A PyTorch container, say, brings its own torch:
            if supported(importlib.metadata.version('torch')):
                command += ['--system-site-packages']
        except importlib.metadata.PackageNotFoundError:
            pass
        # Debian and Ubuntu leave ensurepip out of their Python:
        bare = importlib.util.find_spec('ensurepip') is None
        commands = [[*command, '--without-pip'], [
            sys.executable, '-m', 'pip', '-q', '--python', self.python,
            'install', 'pip'
        ]] if bare else [command]
        for command in commands:
            if subprocess.run(command, capture_output=True).returncode:
                die(f'cannot create {self.path}: this Python lacks venv or '
                    'pip (Debian, Ubuntu: apt install python3-venv)')


def page(url):
    try:
        return urllib.request.urlopen(url, timeout=5).read().decode()
    except (OSError, ValueError):
        return ''


def binaries(cp, torch, tag):  # PyG's wheel page, if it has what we pin.
    url = PYG_WHEELS.format(torch, tag)
    text = page(url)
    kind = rf'[^-\s]*-{cp}-{cp}-\w*linux\w*_{platform.machine()}'
    names = [pin.replace('-', '_').replace('==', '-') for pin in PINS]
    found = [re.search(re.escape(name) + kind, text) for name in names]
    return url if all(found) else None


def install_torch(env, cp):  # Version and kind, None for a broken torch.
    # The version that pip knows, which may lack torch's own `+cu130`:
    ask = ('import importlib.metadata as m, torch; '
           'print(m.version("torch"), torch.version.cuda or "")')
    there = env.ask(ask)
    if there is None:
        version = next((v for v in TORCH if binaries(cp, v, 'cpu')), TORCH[0])
        cpu = shutil.which('nvidia-smi') is None
        index = ['--index-url', TORCH_WHEELS] if cpu and (
            f'torch-{version}' in page(f'{TORCH_WHEELS}/torch/')) else []
        env.pip(f'installing torch {version}, some minutes', 'install',
                f'torch=={version}', *index)
        there = env.ask(ask)
    if there is None:
        return None
    version, _, cuda = there.partition(' ')
    if not supported(version):
        die(f'torch {version} is in {env.path}, {TORCH_RANGE} is needed; '
            'name another environment (new or not) in DIFFMM_VENV')
    env.pinned.write_text(f'torch=={version}\n')
    return version, 'cu' + cuda.replace('.', '') if cuda else 'cpu'


def can_build(env):
    header = 'import sysconfig as s; open(s.get_path("include") + "/Python.h")'
    if not any(map(shutil.which, ['c++', 'g++'])):
        return say('no C++ compiler found (Debian, Ubuntu: apt install g++)')
    if env.ask(header) is None:
        return say('Python.h not found (Debian: apt install python3-dev)')
    return True


def build(env, cache):  # Builds what the cache lacks; wheels, or None.
    missing = [pin for pin in PINS if not (cache / pin).exists()]
    if missing and not can_build(env):
        return None
    memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    jobs = max(1, min(len(os.sched_getaffinity(0)), memory // 2**31))

    def wheel(pin):
        part = env.path / f'diffmm-{pin}'
        shutil.rmtree(part, ignore_errors=True)
        if env.pip(f'building {pin}', 'wheel', pin, '-w', part, '--no-deps',
                   '--no-build-isolation', '--no-cache-dir', needed=False,
                   MAX_JOBS=str(jobs)):
            cache.mkdir(parents=True, exist_ok=True)
            shutil.move(part, cache / pin)

    if missing:
        say(f"building {' and '.join(missing)} for this torch, once: about "
            '4 and 11 minutes on two cores')
        env.pip('installing ninja', 'install', 'ninja', needed=False)
        for pin in missing:
            wheel(pin)
    wheels = [next((cache / pin).glob('*.whl'), None) for pin in PINS]
    return wheels if all(wheels) else None


def install_extensions(env, cp, version, tag):  # Returns if both work.
    def install(*args):
        return env.pip('installing torch-scatter and torch-sparse', 'install',
                       '--no-deps', '--force-reinstall', *args,
                       needed=False) and env.ask(PRODUCT) is not None

    if env.ask(PRODUCT) is not None:
        return True
    url = binaries(cp, version.partition('+')[0], tag)
    if url and install(*PINS, '-f', url, '--only-binary', ':all:'):
        return True
    # Not in pip's own cache, which does not know of torch's version:
    home = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    cache = Path(home, 'diffmm_pyg', f'{cp}-torch-{version}-{tag}')
    old = all((cache / pin).exists() for pin in PINS)
    for _ in range(1 + old):
        wheels = build(env, cache)
        if wheels and install(*wheels):
            return True
        shutil.rmtree(cache, ignore_errors=True)  # of another C library?
    return False


def install(env, mode):  # If extensions work, None for a broken environment.
    cp = env.ask('import sys, pip; print("cp%d%d" % sys.version_info[:2])')
    if cp is None:
        env.create()
        cp = 'cp{}{}'.format(*sys.version_info)
    env.pip('installing setuptools', 'install', 'setuptools>=77', 'wheel')
    torch = install_torch(env, cp)
    if torch is None:
        return None
    env.pip('installing diffmm_pyg and what it needs', 'install', '-e',
            f'.[{MODES[mode][0]}]', '-c', env.pinned, '--no-build-isolation',
            # A folder of the checkout's name must not hide the package:
            '--config-settings', 'editable_mode=compat')
    if env.ask(healthy(mode)) is None:
        return None
    return install_extensions(env, cp, *torch)


def healthy(mode):
    return HEALTHY.format(str(ROOT), MODES[mode][1])


def set_up(env, mode):
    key = hashlib.sha256(str(ROOT).encode() + b''.join(
        (ROOT / name).read_bytes()
        for name in ['setup.cfg', 'pyproject.toml', 'setup_env.py']
    )).hexdigest()
    # What was set up for the tests, or with the same extras, serves:
    stamps = [env.path / f'diffmm-{MODES[m][0]}.stamp' for m in ('test', mode)]
    for stamp in filter(Path.exists, stamps):
        works, _, done = stamp.read_text().partition(' ')
        check = healthy(mode) + PRODUCT * (works == 'with')
        if done == key and env.ask(check) is not None:
            return works == 'with'
    works = install(env, mode)
    if works is None and env.own:
        say('the environment is broken and is made again')
        env.create()
        works = install(env, mode)
    if works is None:
        die(f'{env.path} is broken; remove it and run this again')
    stamps[-1].write_text(f"{'with' if works else 'without'} {key}")
    say('ready')
    return works


def main():
    if len(sys.argv) < 2 or sys.argv[1] not in MODES:
        sys.exit(__doc__)
    if sys.version_info < (3, 11):
        die(f'Python 3.11 or newer is needed, not {platform.python_version()}')
    mode, env = sys.argv[1], Env()
    try:
        if not set_up(env, mode):
            say('going on without torch-scatter and torch-sparse: everything '
                'works on plain edge_index, SparseTensor input is refused; '
                f'to try again, remove {env.path}/diffmm-*.stamp')
    except KeyboardInterrupt:
        die('interrupted; the next run goes on from here')
    if mode == 'test':
        os.chdir(ROOT)
    os.execv(env.python, [env.python, *MODES[mode][2], *sys.argv[2:]])


if __name__ == '__main__':
    main()
