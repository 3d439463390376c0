import pytest
import torch
from oracle import assert_close

from diffmm_pyg.nn import ModalityEncoder
from diffmm_pyg.testing import textbook


def test_by_hand():
    x = torch.tensor([[1., -2.], [3., 1.]])
    encoder = ModalityEncoder(2, 2)
    with torch.no_grad():
        encoder.lin.weight.copy_(torch.tensor([[1., 2.], [-1., 0.]]))
        encoder.lin.bias.copy_(torch.tensor([0.5, 0.]))
    assert encoder(x).tolist() == [[-2.5, -1.], [5.5, -3.]]

    encoder = ModalityEncoder(2, 2, projection='leaky_relu')
    with torch.no_grad():
        encoder.lin.weight.copy_(torch.tensor([[1., 2.], [-1., 0.]]))
    assert_close(encoder(x), torch.tensor([[-0.6, -0.2], [5., -0.6]]))


@pytest.mark.parametrize('projection', ['linear', 'leaky_relu'])
def test_equals_textbook(double, projection):
    encoder, x = ModalityEncoder(3, 4, projection), torch.randn(5, 3)
    expected = textbook.project(x, encoder.lin.weight, encoder.lin.bias)
    assert_close(encoder(x), expected)
