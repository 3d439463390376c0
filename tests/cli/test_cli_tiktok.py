import json

import pytest
from small import files, printed, textbook_metrics

from diffmm_pyg.runs import load


def test_tiktok(tiktok, cli, cwd, tmp_path):
    result = cli('train', '--data', 'tiktok', '--source', tiktok,
                 '--modalities', 'image', 'audio', '--preset', 'reference',
                 '--protocol', 'paper', '--hidden-channels', 16,
                 '--diffusion-hidden-channels', 16, '--top-k', 20, '--root',
                 tmp_path / 'root', '--out', 'run')
    assert result.code == 0
    assert "5 of the 6130 users of 'test' have no training edge" in result.err
    assert {name.split('/')[0] for name in files(cwd)} == {'run'}

    run = load('run')
    assert (run.num_users, run.num_items) == (9308, 6710)
    expected = textbook_metrics(run, 'test', ['observed'], 20)
    metrics = run.metrics
    assert metrics['test'] == pytest.approx(expected, rel=1e-5)
    assert json.loads(result.out) == printed(metrics)
    assert json.loads(cli('evaluate', 'run').out)['test'] == printed(
        metrics)['test']
    # 20 items at random would give 0.003; even one small epoch is better:
    assert metrics['test']['recall@20'] > 0.01
