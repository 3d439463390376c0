r"""What models, training and evaluation share."""
from .negative_sampling import NegativeSampler
from .random import dropout_mask, keyed_generator
from .row_embedding import RowEmbedding, UserEmbedding
from .sparse_rows import SparseRows
from .topk import inner_product_topk

__all__ = [
    'NegativeSampler',
    'RowEmbedding',
    'SparseRows',
    'UserEmbedding',
    'dropout_mask',
    'inner_product_topk',
    'keyed_generator',
]
