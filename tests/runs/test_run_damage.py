import json
import os
import resource

import pytest
import safetensors.torch
import torch
from small import files, small_data, small_fit, small_model

from diffmm_pyg.errors import RunError
from diffmm_pyg.nn.models import EASE
from diffmm_pyg.runs import load, save_run


@pytest.fixture
def run():
    return small_fit(small_data(), epochs=1)


def test_disk_full(run, tmp_path):
    # The limit of a process stands for that of the disk; the error is one of
    # safetensors, which is no `OSError`.
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, hard))
    try:
        with pytest.raises(RunError, match='free some space'):
            save_run(run, str(tmp_path / 'run'))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert files(tmp_path) == {}


def test_old_run_is_put_back(run, tmp_path, monkeypatch):
    save_run(run, str(tmp_path / 'run'))
    before = files(tmp_path)
    rename, calls = os.rename, []

    def failing(src, dst):
        calls.append(src)
        if len(calls) == 2:
            raise OSError(28, 'no space')
        rename(src, dst)

    monkeypatch.setattr(os, 'rename', failing)
    with pytest.raises(RunError, match='no space'):
        save_run(run, str(tmp_path / 'run'), overwrite=True)
    assert files(tmp_path) == before


@pytest.mark.parametrize('name, dtype', [
    ('observed', torch.uint64),
    ('observed', torch.float64),
    ('val', torch.float64),
    ('val', torch.bool),
])
def test_dtype_of_edges(run, tmp_path, name, dtype):
    run.graphs[name] = run.graphs[name].to(dtype)
    save_run(run, str(tmp_path / 'run'))
    with pytest.raises(RunError, match=f"no valid edges '{name}'"):
        load(str(tmp_path / 'run'))


@pytest.mark.parametrize('change', [
    lambda emb: emb.view(torch.int32),
    lambda emb: emb * float('nan'),
    lambda emb: emb[:, :3].contiguous(),
    lambda emb: emb.view(-1),
    lambda emb: emb.double(),
    lambda emb: emb.half(),
    lambda emb: emb.to(torch.float8_e5m2),
])
def test_embeddings_that_do_not_fit(run, tmp_path, change):
    run.user_emb = change(run.user_emb)
    save_run(run, str(tmp_path / 'run'))
    with pytest.raises(RunError, match="embeddings.safetensors' is damaged"):
        load(str(tmp_path / 'run'))


@pytest.mark.parametrize('names, dtype', [
    (['user', 'item'], torch.half),
    (['user', 'item'], torch.float8_e5m2),
    (['user', 'item'], torch.complex64),
    (['user.scale'], torch.double),
    (['user.dense'], torch.double),
    (['user.scale', 'user.dense', 'item'], torch.half),
])
def test_embeddings_of_other_types(tmp_path, names, dtype):
    data = small_data()
    model = EASE(60, 40) if len(names[0]) > 4 else small_model(data)
    small_fit(data, model, epochs=1, out=str(tmp_path / 'run'))
    path = tmp_path / 'run' / 'embeddings.safetensors'
    tensors = safetensors.torch.load_file(path)
    for name in names:
        tensors[name] = tensors[name].to(dtype)
    safetensors.torch.save_file(tensors, path)
    with pytest.raises(RunError, match="embeddings.safetensors' is damaged"):
        load(str(tmp_path / 'run'))


@pytest.mark.parametrize('name, content', [
    ('ids.json', {'user': 5, 'item': []}),
    ('ids.json', {'user': None, 'item': None}),
    ('config.json', {'format': 1}),
    ('config.json', {'format': 1, 'training': 5}),
    ('config.json', {'format': 1, 'training': {'top_k': 'a'}}),
])
def test_json_of_other_types(run, tmp_path, name, content):
    save_run(run, str(tmp_path / 'run'))
    (tmp_path / 'run' / name).write_text(json.dumps(content))
    with pytest.raises(RunError, match=f"{name}' is damaged"):
        load(str(tmp_path / 'run'))
