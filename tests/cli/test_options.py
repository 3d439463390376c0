import os
import re

import pytest
import torch
from small import small_data, small_fit

from diffmm_pyg.runs import save_run


def test_none_stands_for_the_default(cli, cwd):
    result = cli('train', '--out', 'none', '--diffusion-sampler', 'none')
    assert result.code == 0, result.err
    assert len(os.listdir(cwd / 'runs')) == 1


@pytest.mark.parametrize('flag, value, name', [
    ('--num-layers', '-1', 'num_layers'),
    ('--edge-dropout', '1', 'edge_dropout'),
    ('--weight-scale', '0', 'weight_scale'),
    ('--hidden-channels', '0', 'hidden_channels'),
    ('--diffusion-hidden-channels', '0', 'hidden_channels'),
    ('--temperature', '0', 'temperature'),
    ('--seed', '-1', 'seed'),
    ('--lr', 'nan', 'lr'),
    ('--out', '', 'folder'),
    ('--conv', 'os.system', 'os.system'),
    ('--denoised-conv', 'SAGEConv', 'weighting'),
    ('--num-neighbors', '5,5', 'num_neighbors'),
])
def test_values_out_of_range(cli, cwd, flag, value, name):
    result = cli('train', flag, value)
    assert result.code == 1
    assert len(result.err.splitlines()) == 1 and name in result.err.lower()
    assert os.listdir(cwd) == []


@pytest.mark.parametrize('value', ['{', '[1]', '7', 'null'])
def test_arguments_of_a_convolution_that_are_no_object(cli, cwd, value):
    result = cli('train', '--conv-kwargs', value)
    assert result.code == 2
    assert result.err.startswith("error: '--conv-kwargs': invalid json value")


@pytest.mark.parametrize('value', ['a', '5,', '[5,5,5]', '1.5'])
def test_numbers_that_are_no_list(cli, cwd, value):
    result = cli('train', '--num-neighbors', value)
    assert result.code == 2
    assert result.err.startswith("error: '--num-neighbors': invalid list")


def test_modality_named_twice(cli, cwd):
    result = cli('train', '--modalities', 'image', 'image')
    assert result.code == 1 and "'--modalities'" in result.err


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_no_gpu(cli, cwd):
    result = cli('train', '--device', 'cuda')
    assert result.code == 1
    assert "There is no device 'cuda'" in result.err.splitlines()[-1]
    assert os.listdir(cwd) == []


def test_failing_start_leaves_no_folder(cli, cwd):
    assert cli('train', '--data', 'nowhere', '--out', 'deep/run').code == 1
    assert os.listdir(cwd) == []


def test_parquet_without_rows(cli, cwd):
    run = small_fit(small_data(), epochs=1)
    user, item = torch.cartesian_prod(torch.arange(60), torch.arange(40)).t()
    run.graphs['observed'] = torch.stack([user, item])
    save_run(run, 'run')
    for name in ['out.csv', 'out.parquet']:
        result = cli('recommend', 'run', '--users', 3, '--output', name)
        assert result.code == 0, result.err


def test_help_describes_every_hyper_parameter(cli):
    out = cli('train', '--help').out
    assert not re.search(r'(?m)^  --[\w-]+ \w+\n  --', out)
