import pytest
import torch
import torch.nn.functional as F
from oracle import assert_close

from diffmm_pyg.utils.normalize import row_normalize


@pytest.mark.parametrize('size', [(5, 3), (2, 4, 3), (0, 3)])
def test_equals_torch(double, size):
    x = torch.randn(size)
    x[:1] = 0  # Has a norm below `eps`, and the gradient that torch gives it.
    x.requires_grad_()
    factor = torch.randn(size)
    outs = [row_normalize(x), F.normalize(x, dim=-1)]
    assert_close(*outs)
    assert_close(*[
        torch.autograd.grad((factor * out).sum(), x)[0] for out in outs
    ])


def test_second_derivative_is_refused():
    x = torch.randn(3, 2, requires_grad=True)
    grad, = torch.autograd.grad(row_normalize(x)[:, 0].sum(), x,
                                create_graph=True)
    with pytest.raises(RuntimeError, match='does not require grad'):
        grad.sum().backward()
