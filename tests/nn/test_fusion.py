import torch
from oracle import assert_close

from diffmm_pyg.nn import ModalityFusion


def make_fusion():
    out = ModalityFusion(['a', 'b'])
    with torch.no_grad():  # Weights are 1/4 and 3/4.
        out.logits.copy_(torch.tensor([0., 3.]).log1p())
        out.logits[1] = torch.tensor(3.).log()
    return out


def test_by_hand():
    x_dict = {'b': torch.tensor([[4.], [8.]]), 'a': torch.tensor([[0.], [4.]])}
    assert_close(make_fusion()(x_dict), torch.tensor([[3.], [7.]]))
    assert ModalityFusion(['a', 'b', 'c']).weight.unique().numel() == 1


def test_weights():
    fusion = make_fusion()
    weights = fusion.weights()
    assert list(weights) == ['a', 'b']
    assert_close(weights['a'], torch.tensor(0.25))
    has = torch.tensor([True, False, True, False])
    weights = fusion.weights({'b': has})
    assert_close(weights['a'], torch.tensor([[0.25], [1.], [0.25], [1.]]))
    assert_close(weights['b'], torch.tensor([[0.75], [0.], [0.75], [0.]]))
    weights = fusion.weights({'a': torch.tensor([True, True, False, False]),
                              'b': has})
    assert_close(weights['a'], torch.tensor([[0.25], [1.], [0.], [0.]]))
    assert_close(weights['b'], torch.tensor([[0.75], [0.], [1.], [0.]]))


def test_missing_modality():
    x_dict = {'a': torch.tensor([[2.], [2.]]), 'b': torch.tensor([[6.], [0.]])}
    out = make_fusion()(x_dict, {'b': torch.tensor([True, False])})
    assert_close(out, torch.tensor([[5.], [2.]]))
