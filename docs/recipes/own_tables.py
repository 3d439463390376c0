r"""Your interactions (CSV, TSV, Parquet) and the features of your items to
recommendations with your ids, as CSV on the standard output:

    python docs/recipes/own_tables.py orders.parquet items.csv \
        image=image.npy text=text.npy --columns user=customer item=sku

Row n of every feature file belongs to row n of the table of items, whose ids
are in a column of the same name (here, sku).
"""
import argparse
import csv
import sys

import diffmm_pyg
from diffmm_pyg.datasets import hetero_data_from_tables
from torch_geometric import seed_everything


def recommend(interactions, items, features, columns=None, k=10, epochs=50,
              diffusion=None):
    data = hetero_data_from_tables(interactions, features, item_ids=items,
                                   columns=columns)
    seed_everything(0)
    model = diffmm_pyg.build_model(data[0], diffusion=diffusion)
    k = min(k, data[0]['item'].num_nodes)
    run = diffmm_pyg.fit(model, data, epochs=epochs, top_k=k)
    print(run.metrics, file=sys.stderr)
    users, ranked, _ = run.recommend(k=k)
    return dict(zip(users, ranked, strict=True))


def pair(text):
    name, _, value = text.partition('=')
    return name, value


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('interactions')
    parser.add_argument('items')
    parser.add_argument('features', nargs='+', type=pair)
    parser.add_argument('--columns', nargs='*', type=pair, default=[])
    parser.add_argument('--k', type=int, default=10)
    parser.add_argument('--epochs', type=int, default=50)
    args = parser.parse_args()
    recommendations = recommend(args.interactions, args.items,
                                dict(args.features), dict(args.columns),
                                args.k, args.epochs)
    writer = csv.writer(sys.stdout)
    writer.writerow(['user', 'rank', 'item'])
    for user, items in recommendations.items():
        writer.writerows([user, rank, item]
                         for rank, item in enumerate(items, start=1))
