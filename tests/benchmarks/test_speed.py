import json
import math
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / 'benchmarks'))

import speed  # noqa: E402
from _timing import profile  # noqa: E402
from _timing.arithmetic import Size, minimal_work  # noqa: E402
from _timing.fast_loop import PHASES, choose_batches  # noqa: E402
from _timing.problem import generate_data, make_config, make_model  # noqa: E402
from _timing.speed_report import summarize  # noqa: E402
from diffmm_pyg.typing import denoised_edge_type  # noqa: E402

TINY = ['--users', '60', '--items', '40', '--hidden-channels', '6',
        '--batch-size', '32', '--steps', '1', '--repeats', '2', '--threads',
        '1', '--peak-size', '32']
HEADS = [[], ['--likelihood', 'multinomial', '--normalize']]


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.delenv('DIFFMM_DATA', raising=False)
    monkeypatch.setenv('PYTHONPATH', str(ROOT))  # Of child processes.
    num_threads = torch.get_num_threads()
    yield
    torch.set_num_threads(num_threads)


def make_loops(options):
    args = speed.parse_args([*TINY, *options])
    torch.manual_seed(0)
    data = generate_data(args, args.users, args.items)
    loops = speed.make_loops(args, data, ['textbook', 'fast_fp32'])
    for loop in loops.values():
        loop.model.edge_dropout = 0.  # Each draws its own.
    return loops['textbook'], loops['fast_fp32']


@pytest.mark.parametrize('options', HEADS)
def test_both_compute_the_same(options):
    slow, fast = make_loops(options)
    slow.start_epoch((0, ))
    fast.start_epoch((0, ))

    index = torch.randperm(60)[:32]
    rows = slow.rows.select(index)
    t = torch.randint(5, (32, ))
    noise, keep = torch.randn(32, 40), torch.rand(32, 40) < 0.5
    expected = sum(
        slow.denoiser_loss(m, rows.to_dense(), t, noise, keep / 0.5)
        for m in slow.denoisers)
    actual = fast.model.diffusion.loss(
        rows, slow.feature_dict, fast.model.item_embedding.weight,
        timestep=t, noise=noise, mask=keep)['loss']
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-6)

    for loop in [slow, fast]:
        loop.generate((0, ))
    for m, adj in slow.adj_dict.items():
        user, item = fast.train[denoised_edge_type(m)].edge_index
        assert (adj.to_dense()[user, 60 + item] > 0).all()
        assert adj.values().numel() == 2 * user.numel() + 100

    # As negatives are the same, so are loss, gradient and step of both:
    for step in range(3):
        index = torch.randperm(slow.num_examples[1])[:32]
        losses = [loop.ranking_step(index, (0, step)) for loop in [slow, fast]]
        torch.testing.assert_close(*losses, rtol=1e-4, atol=1e-6)
    expected = slow.evaluate()
    assert fast.evaluate() == pytest.approx(expected, abs=1e-5)
    assert 0 < expected['recall@20'] <= 1


def test_loops_train():
    for loop in make_loops([]):
        before = [p.detach().clone() for optimizer in loop.optimizers
                  for group in optimizer.param_groups
                  for p in group['params']]
        loop.start_epoch((0, ))
        loop.diffusion_step(torch.arange(32), (0, 0))
        loop.generate((0, ))
        loop.ranking_step(torch.arange(32), (0, 1))
        after = [p for optimizer in loop.optimizers
                 for group in optimizer.param_groups for p in group['params']]
        assert len(before) in {7 + 7, 7 + 7 * 2}
        assert all((a != b).any() for a, b in zip(before, after))


def check(row, fast):
    names = ['textbook', *fast]
    assert list(row['seconds']) == names
    for key in ['seconds', 'gflops', 'gbytes_per_s', 'of_matmul_peak',
                'of_copy_bandwidth']:
        assert list(row[key]) == names
        assert all(0 < x < math.inf for x in row[key].values()), key
    for name in fast:
        ratio = row['textbook_over_fast'][name.removeprefix('fast_')]
        assert ratio == row['seconds']['textbook'] / row['seconds'][name]


def test_json_plot_and_memory(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(speed, 'supports_bf16', lambda device: False)
    out, plot = tmp_path / 'speed.json', tmp_path / 'speed.png'
    speed.main([*TINY, '--memory', '--json', str(out), '--plot', str(plot)])
    result = json.loads(out.read_text())

    assert result['command'].startswith('python benchmarks/speed.py --')
    assert result['command'].endswith('--json speed.json --plot speed.png')
    assert result['settings']['data'] == 'generated'
    assert result['settings']['timed_steps'] == 1
    assert len(result['repeats']) == 2
    assert list(result['phases']) == PHASES
    for row in [result['epoch'], *result['phases'].values()]:
        check(row, ['fast_fp32'])
    assert result['epoch']['textbook_over_fast']['bf16'] is None
    assert result['bf16'].startswith('not measured')
    assert result['machine']['threads'] == 1
    assert min(result['machine']['limits'].values()) > 0
    for name in ['textbook', 'fast_fp32']:
        assert list(result['memory'][name]['phases']) == PHASES
        assert result['memory'][name]['before'] > 0
    assert plot.stat().st_size > 0
    assert 'epoch' in capsys.readouterr().out


def test_bf16_and_full_epoch(monkeypatch):
    result = speed.main([*TINY, *HEADS[1], '--full-epoch', '--bf16'])
    assert result['settings']['timed_steps'] == 'all'
    assert 'bf16' not in result
    for row in [result['epoch'], *result['phases'].values()]:
        check(row, ['fast_fp32', 'fast_bf16'])


@pytest.mark.parametrize('num,batch_size,steps', [
    (10, 4, None), (8, 4, None), (3, 4, None), (23, 4, 2), (23, 4, 9),
    (20, 4, 1), (3, 4, 1),
])
def test_batches_stand_for_an_epoch(num, batch_size, steps):
    batches = choose_batches(num, batch_size, steps)
    assert sum(index.numel() * w for index, w in batches) == num
    assert sum(w for _, w in batches) == math.ceil(num / batch_size)
    users = torch.cat([index for index, _ in batches])
    assert users.unique().numel() == users.numel() and users.max() < num
    if steps is not None:
        full = [w for index, w in batches if index.numel() == batch_size]
        assert len(full) == min(steps, num // batch_size)
    else:
        assert users.numel() == num


def test_medians():
    repeats = [{
        'textbook': dict.fromkeys(PHASES, 2. * x),
        'fast_fp32': dict.fromkeys(PHASES, x),
    } for x in [1., 2., 30.]]
    work = minimal_work(*_tiktok())
    limits = {'matmul_fp32_gflops': 100., 'copy_gbytes_per_s': 10.}
    out = summarize(repeats, work, limits)
    assert out['phases']['ranking']['seconds'] == {'textbook': 4.,
                                                   'fast_fp32': 2.}
    assert out['epoch']['seconds']['fast_fp32'] == 8.
    assert out['epoch']['textbook_over_fast'] == {'fp32': 2.}
    gflop = sum(w.flop for w in work.values()) / 1e9
    assert out['epoch']['of_matmul_peak']['fast_fp32'] == \
        pytest.approx(gflop / 8 / 100)


def _tiktok(*options):
    args = speed.parse_args([*TINY, *options])
    args.hidden_channels = 1000
    model = make_model(make_config(args), generate_data(args, 60, 40)[0])
    model.num_users, model.num_items = 9308, 6710
    return model, Size(edges=59541, evaluated=3051, features=[128, 128],
                       anchors=(900, 800), batch_size=1024)


def test_arithmetic():
    work = minimal_work(*_tiktok())
    # By hand, and leading terms only:
    U, I, H, B = 9308, 6710, 1000, 1024
    first = 2 * 4 * U * I * H
    gram = 2 * 4 * U / B * I * H * H
    assert work['diffusion'].flop == pytest.approx(first + gram, rel=0.2)
    assert work['generation'].flop == pytest.approx(
        2 * 2 * U * I * H + 2 * 2 * I * H * H + 4 * 2 * 2 * U * H * H,
        rel=0.02)
    nce = 59541 * 2 * 6 * 64 * (900 * U + 800 * I) / 1024
    assert work['ranking'].flop == pytest.approx(nce, rel=0.25)
    assert sum(w.flop for w in work.values()) == pytest.approx(2.4e12, rel=0.3)

    multinomial = minimal_work(*_tiktok(*HEADS[1]))
    assert multinomial['diffusion'].flop > work['diffusion'].flop
    assert multinomial['generation'].flop < work['generation'].flop
    assert multinomial['ranking'] == work['ranking']


def test_profile(tmp_path, capsys):
    result = speed.main([*TINY, '--bf16', '--profile'])
    assert list(result['profile']) == ['fast_fp32', 'fast_bf16']
    for shares in result['profile'].values():
        assert list(shares) == PHASES
    out = capsys.readouterr().out.split('by operator')
    assert len(out) == 3 and all('mm' in text for text in out[1:])


def test_shares_of_a_profile(monkeypatch):
    class Profile:
        def key_averages(self):
            return [SimpleNamespace(key=key, self_cpu_time_total=1e6 * seconds)
                    for key, seconds in [('aten::add', 0.4), ('aten::mm', 1.),
                                         ('Optimizer.step', 9.)]]

    clock, run = iter([5., 7.]), nullcontext(Profile())
    monkeypatch.setattr(profile, 'profile', lambda **_: run)
    monkeypatch.setattr(profile.time, 'perf_counter', lambda: next(clock))
    calls = []
    shares = profile._profile([(calls.append, (0, ))], top=1)
    assert calls == [0, 0]  # Once to warm up
    assert shares == pytest.approx(
        {'aten::mm': 0.5, 'other operators': 0.2, 'Python': 0.3})
