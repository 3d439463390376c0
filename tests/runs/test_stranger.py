r"""A run folder from a stranger, who may write anything into its files."""
import hashlib
import json
import pickle
import shutil
import struct
import sys
import tracemalloc

import pytest
import torch
from small import files, small_data, small_fit, small_model

from diffmm_pyg.errors import ConfigError, RunError
from diffmm_pyg.runs import load
from diffmm_pyg.training.checkpoint import _checksum

TENSORS = ['model', 'graphs', 'embeddings']
OPENED = []  # By audited calls; there is no way to take a hook away.
sys.addaudithook(lambda event, args: OPENED.append(args)
                 if event == 'open' and OPENED[:1] == ['on'] else None)


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp('trained') / 'run'
    small_fit(small_data(), epochs=1, out=str(out))
    return out


@pytest.fixture
def folder(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / 'run')


def edit(folder, change, name='config.json'):
    values = json.loads((folder / name).read_text())
    change(values)
    (folder / name).write_text(json.dumps(values))


def replace_texts(node, text):
    for key, value in node.items() if isinstance(node, dict) else enumerate(
            node):
        if isinstance(value, (dict, list)):
            replace_texts(value, text)
        elif isinstance(value, str) and key != 'protocol':
            node[key] = text


@pytest.mark.parametrize('text', ['../../secret', '/etc/passwd',
                                  'os.system', '$(touch x)', '%s%n{0}'])
def test_texts_of_the_config_lead_nowhere(trained, folder, text):
    edit(folder, lambda values: replace_texts(values, text))
    before = files(folder.parent)
    OPENED[:] = ['on']
    try:
        run = load(str(folder))
        metrics, first = run.evaluate(), run.recommend(k=3)
    finally:
        opened, OPENED[:] = OPENED[1:], []
    assert {str(args[0]).rpartition('/')[0] for args in opened} == {
        str(folder), str(folder / 'checkpoints')}
    expected = load(str(trained))
    assert metrics == expected.evaluate()
    assert first.item == expected.recommend(k=3).item
    assert files(folder.parent) == before
    with pytest.raises(ConfigError, match='not one of diffmm_pyg'):
        run.model()


@pytest.mark.parametrize('change, error, match', [
    (lambda c: c['data'].update(num_users=10**12), RunError, 'another size'),
    (lambda c: c['model'].update(hidden_channels=2**40), RunError,
     'another size'),
    (lambda c: c['diffusion'].update(num_steps=10**9, corruption='noise'),
     RunError, 'another size'),
    (lambda c: c['data']['channels'].update(image='a'), RunError, 'TypeError'),
    (lambda c: c['model'].update(what=1), RunError, "argument 'what'"),
    (lambda c: c.pop('data'), RunError, 'KeyError'),
    (lambda c: c.update({'class': [1]}), RunError, 'TypeError'),
    (lambda c: c['model'].update(conv='os.system'), ConfigError,
     "no convolution 'os.system'"),
])
def test_models_that_are_only_claimed(folder, change, error, match):
    edit(folder, change)
    run = load(str(folder))
    assert run.evaluate()['test'].keys() == run.metrics['test'].keys()
    with pytest.raises(error, match=match) as info:
        run.model()
    assert '\n' not in str(info.value)


@pytest.mark.parametrize('name', TENSORS)
def test_pickles_are_not_read(folder, attack, name):
    path = folder / f'{name}.safetensors'
    for write in [pickle.dump, torch.save]:
        with open(path, 'wb') as f:
            write(attack, f)
        with pytest.raises(RunError, match=f"{name}.safetensors' is damaged"):
            load(str(folder))


@pytest.mark.parametrize('name', TENSORS)
@pytest.mark.parametrize('shape, end', [
    ([10**12, 4], 16),
    ([10**12, 4], 16 * 10**12),
    ([2**62, 4], 16),
    ([0, 10**12], 16),
])
def test_tensors_that_are_only_claimed(folder, name, shape, end):
    header = json.dumps({'user': {'dtype': 'F32', 'shape': shape,
                                  'data_offsets': [0, end]}}).encode()
    (folder / f'{name}.safetensors').write_bytes(
        struct.pack('<Q', len(header)) + header + bytes(16))
    tracemalloc.start()
    try:
        with pytest.raises(RunError, match=f"{name}.safetensors' is damaged"):
            load(str(folder))
        assert tracemalloc.get_traced_memory()[1] < 10**7
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize('length', [10**12, 2**63, 2**64 - 1])
def test_header_that_is_only_claimed(folder, length):
    (folder / 'model.safetensors').write_bytes(struct.pack('<Q', length)
                                               + b'{}')
    with pytest.raises(RunError, match="model.safetensors' is damaged"):
        load(str(folder))


@pytest.mark.parametrize('change, match', [
    (lambda v: v['state'].update(position=[0, 0]), 'No checkpoint .* whole'),
    (lambda v: v['state'].update(position=[-10**9, 0, 0]), 'No checkpoint'),
    (lambda v: v.pop('state'), 'No checkpoint .* whole'),
    (lambda v: v.update(config=[]), 'No checkpoint .* whole'),
    (lambda v: v['config'].pop('data'), 'not that of this training'),
    (lambda v: v['state'].update(random={}), 'not that of this training'),
    (lambda v: v['state'].pop('best'), 'not that of this training'),
])
def test_checkpoints_with_checksums_that_fit(folder, change, match):
    path, = (folder / 'checkpoints').glob('*.json')
    values = json.loads(path.read_text())
    del values['checksum']
    change(values)
    path.write_text(json.dumps({'checksum': _checksum(values), **values}))
    data = small_data()
    with pytest.raises(RunError, match=match):
        small_fit(data, small_model(data), epochs=1, out=str(folder),
                  resume=True)


def test_checkpoint_that_is_a_pickle(folder, attack):
    path, = (folder / 'checkpoints').glob('*.safetensors')
    path.write_bytes(pickle.dumps(attack))
    values = path.with_suffix('.json')
    content = json.loads(values.read_text())
    del content['checksum']
    content['tensors'] = hashlib.sha256(path.read_bytes()).hexdigest()
    values.write_text(json.dumps({'checksum': _checksum(content), **content}))
    data = small_data()
    with pytest.raises(RunError, match='No checkpoint in .* is whole'):
        small_fit(data, small_model(data), epochs=1, out=str(folder),
                  resume=True)
