from torch import Tensor

from diffmm_pyg.utils import dropout_mask, keyed_generator
from diffmm_pyg.utils.random import quantized_keep


def keyed_dropout(x: Tensor, p: float, *key: int) -> Tensor:
    r"""Sets entries of a matrix to zero with probability :obj:`p` and
    rescales the others, as :meth:`torch.nn.functional.dropout` does, by draws
    that depend on :obj:`key` alone.
    """
    if p == 0:
        return x
    mask = dropout_mask(x.size(0), x.size(1), p,
                        keyed_generator(*key, device=x.device))
    return x * (mask.to(x.dtype) / quantized_keep(p))
