r"""What is benchmarked: a dataset, hyper-parameters and a model."""
import argparse
import tempfile
from typing import Any, Dict, Tuple

import torch

from diffmm_pyg.data import modality_features
from diffmm_pyg.datasets import FakeMultiModalRec, MultiModalRec
from diffmm_pyg.diffusion import GraphDiffusion
from diffmm_pyg.nn import DiffMM
from diffmm_pyg.presets import load_preset
from diffmm_pyg.typing import ITEM, USER
from torch_geometric.data import HeteroData

PRESET = 'reference'
CHANNELS = 128  # Features per modality, as in TikTok


def add_arguments(parser: argparse.ArgumentParser) -> None:
    r"""Adds the options of the model and of the machine."""
    parser.add_argument('--hidden-channels', type=int, metavar='H',
                        help='width of the denoisers (default: the preset\'s)')
    parser.add_argument('--likelihood', choices=['gaussian', 'multinomial'],
                        default='gaussian', help='head of the denoisers')
    parser.add_argument('--normalize', action='store_true',
                        help='normalize the input of the denoisers')
    parser.add_argument('--modalities', nargs='+', default=['image', 'audio'],
                        help='names of the modalities')
    parser.add_argument('--degree', type=float, default=10.,
                        help='interactions per user in generated data')
    parser.add_argument('--batch-size', type=int, default=1024)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--threads', type=int,
                        help='number of CPU threads (default: PyTorch\'s)')
    parser.add_argument('--device', default='cpu')


def set_up(args: argparse.Namespace) -> None:
    r"""Applies the options that concern the whole process."""
    torch.manual_seed(args.seed)
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    if args.device.startswith('cuda'):
        torch.cuda.init()


def make_config(args: argparse.Namespace) -> Dict[str, Dict[str, Any]]:
    r"""Returns the preset's hyper-parameters, changed as the options say."""
    config = load_preset(PRESET)
    config['diffusion']['likelihood'] = args.likelihood
    config['diffusion']['normalize'] = args.normalize
    if args.hidden_channels is not None:
        config['diffusion']['hidden_channels'] = args.hidden_channels
    config['training']['batch_size'] = args.batch_size
    return config


def generate_data(args: argparse.Namespace, num_users: int,
                  num_items: int) -> Tuple[HeteroData, HeteroData]:
    r"""Returns the training and validation graph of generated data."""
    dataset = FakeMultiModalRec(
        num_users, num_items, avg_degree=args.degree, seed=args.seed,
        feature_channels=dict.fromkeys(args.modalities, CHANNELS))
    return dataset[0].to(args.device), dataset[1].to(args.device)


def load_tiktok(args: argparse.Namespace) -> Tuple[HeteroData, HeteroData]:
    r"""Returns the training and validation graph of TikTok."""
    with tempfile.TemporaryDirectory() as root:
        dataset = MultiModalRec(root, 'tiktok', source=args.data,
                                modalities=args.modalities)
        return dataset[0].to(args.device), dataset[1].to(args.device)


def make_model(config: Dict[str, Dict[str, Any]], train: HeteroData) -> DiffMM:
    r"""Returns a new model for :obj:`train`, on its device."""
    x_dict = modality_features(train)
    num_items = train[ITEM].num_nodes
    diffusion = GraphDiffusion(num_items, list(x_dict), **config['diffusion'])
    model = DiffMM(train[USER].num_nodes, num_items,
                   {m: x.size(1) for m, x in x_dict.items()}, diffusion,
                   **config['model'])
    return model.to(next(iter(x_dict.values())).device)
