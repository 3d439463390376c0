r"""Damaged files of every kind that may come from a stranger."""
import pickle
import random
import sys
import warnings
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.torch import load, save

pytest.importorskip('pyarrow')
pytestmark = pytest.mark.filterwarnings('ignore:Duplicate name')
ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / 'benchmarks'))

from _damage.mutations import (  # noqa: E402
    PICKLED,
    TYPES,
    mutate,
    mutate_pickle,
    mutate_safetensors,
)
from _damage.parsers import PARSERS  # noqa: E402
from diffmm_pyg.errors import DiffMMError  # noqa: E402


@pytest.fixture(scope='module', params=PARSERS)
def parser(request):
    return PARSERS[request.param]()


def test_values_of_pickles_become_others():
    content = pickle.dumps('None', 2)
    found = {mutate_pickle(random.Random(i), content) for i in range(300)}
    assert {b'\x80\x02' + value + b'q\x00.' for value in PICKLED} <= found


def test_tensors_become_those_of_other_types():
    content, found = save({'x': torch.ones(2)}), set()
    for i in range(300):
        with suppress(SafetensorError):
            damaged = mutate_safetensors(random.Random(i), content)
            found |= {x.dtype for x in load(damaged).values() if x.numel() > 1}
    assert set(TYPES.values()) <= found


@settings(max_examples=40)
@given(rng=st.randoms(use_true_random=False), data=st.data())
def test_only_our_errors(parser, tmp_path_factory, rng, data):
    folder = tmp_path_factory.mktemp('files')
    files = dict(data.draw(st.sampled_from(parser.seeds)))
    name = data.draw(st.sampled_from([
        name for name in files if name.rpartition('.')[2] in parser.damaged]))
    others = [seed[name] for seed in parser.seeds if name in seed]
    files[name] = mutate(rng, name, files[name], others)
    for name, content in parser.mend(files).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    for call in parser.calls(folder):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')
                call()
        except DiffMMError as e:
            assert '\n' not in str(e) and len(str(e)) < 1000
