from typing import Callable, Dict, Mapping, Optional, Sequence

import numpy as np
import torch
from torch import Tensor

from diffmm_pyg.datasets._splits import SplitDataset
from diffmm_pyg.datasets.from_arrays import Splits, hetero_data_from_arrays
from diffmm_pyg.datasets.split import split_edges
from diffmm_pyg.errors import ConfigError
from torch_geometric.data import HeteroData
from torch_geometric.utils import coalesce


class FakeMultiModalRec(SplitDataset):
    r"""A generated dataset with planted structure:
    :obj:`train, val, test = dataset`.

    Users and items belong to blocks, user :math:`u` to block
    :math:`u \bmod B`. Users interact with items of their block, mostly with
    popular ones: the item of rank :math:`r` within its block is drawn with a
    probability proportional to :math:`(r+1)^{-\alpha}`. The features of an
    item are the centre of its block, another one for every modality, plus
    noise. Every user has at least one training interaction, and users with
    three or more interactions have one to validate and one to test (or a
    tenth).

    Args:
        num_users (int, optional): The number of users. (default: :obj:`1000`)
        num_items (int, optional): The number of items. (default: :obj:`1000`)
        num_blocks (int, optional): The number of blocks :math:`B`.
            (default: :obj:`10`)
        avg_degree (float, optional): The average number of interactions
            drawn per user; repeated ones count once. (default: :obj:`10.`)
        feature_channels (Dict[str, int], optional): The modalities and their
            number of features. If set to :obj:`None`, 64 of images, 48 of
            text and 32 of audio. (default: :obj:`None`)
        modalities (List[str], optional): The modalities to use, in this
            order; their features do not depend on the choice. If set to
            :obj:`None`, will use all of :obj:`feature_channels`.
            (default: :obj:`None`)
        feature_noise (float, optional): The deviation of the noise, where
            that of the centres is 1. (default: :obj:`1.`)
        interaction_noise (float, optional): The share of interactions with
            items of any block. (default: :obj:`0.1`)
        popularity_skew (float, optional): The exponent :math:`\alpha`.
            (default: :obj:`0.5`)
        seed (int, optional): The seed. (default: :obj:`0`)
        transform (callable, optional): A function/transform that takes in a
            :class:`~torch_geometric.data.HeteroData` object and returns a
            transformed version. The data object will be transformed before
            every access. (default: :obj:`None`)

    Raises:
        ConfigError: If a number is out of its range, or a modality unknown.
    """
    def __init__(
        self,
        num_users: int = 1000,
        num_items: int = 1000,
        num_blocks: int = 10,
        avg_degree: float = 10.,
        feature_channels: Optional[Mapping[str, int]] = None,
        modalities: Optional[Sequence[str]] = None,
        feature_noise: float = 1.,
        interaction_noise: float = 0.1,
        popularity_skew: float = 0.5,
        seed: int = 0,
        transform: Optional[Callable[[HeteroData], HeteroData]] = None,
    ) -> None:
        super().__init__(None, transform)
        if not 1 <= num_blocks <= min(num_users, num_items):
            raise ConfigError(f"num_blocks={num_blocks} must lie between 1 "
                              f"and the number of users and of items")
        if avg_degree < 1 or not 0 <= interaction_noise <= 1:
            raise ConfigError(f"avg_degree={avg_degree} must be at least 1, "
                              f"and interaction_noise={interaction_noise} "
                              f"between 0 and 1")
        if feature_channels is None:
            feature_channels = {'image': 64, 'text': 48, 'audio': 32}
        modalities = list(modalities or feature_channels)
        for modality in modalities:
            if modality not in feature_channels:
                raise ConfigError(f"'fake' has no modality '{modality}'; "
                                  f"choose among "
                                  f"{', '.join(feature_channels)}")

        rng = np.random.default_rng(seed)
        edge_index = draw_edges(num_users, num_items, num_blocks, avg_degree,
                                interaction_noise, popularity_skew, rng)
        # All are drawn, so that those chosen are the same in every choice:
        drawn = draw_features(num_items, num_blocks, feature_channels,
                              feature_noise, rng)
        features = {modality: drawn[modality] for modality in modalities}
        splits = split_edges(edge_index, seed=seed)
        self._set_splits(
            hetero_data_from_arrays(num_users, num_items, *splits,
                                    features=features))


def draw_edges(num_users: int, num_items: int, num_blocks: int,
               avg_degree: float, noise: float, skew: float,
               rng: np.random.Generator) -> Tensor:
    r"""Draws the interactions of :class:`FakeMultiModalRec`."""
    degree = 1 + rng.poisson(avg_degree - 1, num_users)
    user = np.repeat(np.arange(num_users), degree)
    block = user % num_blocks
    noisy = rng.random(user.size) < noise
    block[noisy] = rng.integers(num_blocks, size=int(noisy.sum()))

    # Items in the order of their blocks, so that one search through the
    # cumulated probabilities draws an item of a given block:
    item = np.argsort(np.arange(num_items) % num_blocks, kind='stable')
    rank = item // num_blocks
    end = np.cumsum((rank + 1.)**-skew)
    size = np.bincount(item % num_blocks, minlength=num_blocks)
    last = np.cumsum(size) - 1
    high, low = end[last], np.append(0., end[last[:-1]])
    value = low[block] + rng.random(user.size) * (high - low)[block]
    pos = np.searchsorted(end, value, side='right')
    # Rounding may have carried a value to the end of its block:
    pos = np.minimum(pos, last[block])

    edge_index = torch.from_numpy(np.stack([user, item[pos]]))
    return coalesce(edge_index, num_nodes=max(num_users, num_items))


def draw_features(num_items: int, num_blocks: int, channels: Mapping[str, int],
                  noise: float, rng: np.random.Generator) -> Dict[str, Tensor]:
    r"""Draws the features of :class:`FakeMultiModalRec`."""
    block = np.arange(num_items) % num_blocks
    out = {}
    for modality, num_channels in channels.items():
        size = (num_items, num_channels)
        center = rng.standard_normal((num_blocks, num_channels), np.float32)
        x = rng.standard_normal(size, np.float32) * np.float32(noise)
        out[modality] = torch.from_numpy(x + center[block])
    return out


def checkerboard(
    num_users: int = 40,
    num_items: int = 20,
    num_blocks: int = 2,
    feature_channels: Optional[Mapping[str, int]] = None,
) -> Splits:
    r"""Returns a noise-free dataset whose answer is known: every user likes
    all items of the own block, and exactly one of them is withheld. Whatever
    has learnt the blocks, and leaves out training items, ranks the withheld
    item first for every user. (The test that benfred/implicit runs on every
    recommender, with features.)

    Users and items are in the blocks of :class:`FakeMultiModalRec`. The
    withheld items of every other user of a block are the validation split,
    the remaining ones the test split.

    Args:
        num_users (int, optional): The number of users. (default: :obj:`40`)
        num_items (int, optional): The number of items, a multiple of
            :obj:`num_blocks`, at least two per block. (default: :obj:`20`)
        num_blocks (int, optional): The number of blocks. (default: :obj:`2`)
        feature_channels (Dict[str, int], optional): The modalities and their
            number of features. If set to :obj:`None`, 8 of images and 4 of
            text. (default: :obj:`None`)

    Raises:
        ConfigError: If the items do not divide into blocks.
    """
    if num_items % num_blocks != 0 or num_items < 2 * num_blocks:
        raise ConfigError(f"num_items={num_items} must be a multiple of "
                          f"num_blocks={num_blocks}, at least twice as large")
    num_liked = num_items // num_blocks
    user = torch.arange(num_users).repeat_interleave(num_liked)
    rank = torch.arange(num_liked).repeat(num_users)
    edge_index = torch.stack([user, rank * num_blocks + user % num_blocks])

    number = user // num_blocks  # Of the user within the block
    withheld = rank == (number // 2) % num_liked
    is_val = withheld & (number % 2 == 0)
    is_test = withheld & (number % 2 == 1)
    features = draw_features(num_items, num_blocks, feature_channels or {
        'image': 8,
        'text': 4
    }, 0., np.random.default_rng(0))
    return hetero_data_from_arrays(num_users, num_items,
                                   edge_index[:, ~withheld],
                                   edge_index[:, is_val],
                                   edge_index[:, is_test], features=features)
