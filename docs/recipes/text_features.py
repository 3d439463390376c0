r"""The texts of your items to features, by a model of sentence-transformers
(`pip install sentence-transformers`), which is downloaded on first use:

    python docs/recipes/text_features.py items.csv features_text.npy \
        --columns title description --model all-MiniLM-L6-v2

Row n of the features belongs to row n of the table; it is NaN, which says
that the item lacks this modality, where all texts are empty.
"""
import argparse
import csv

import numpy as np


def read_texts(path, columns):
    with open(path, newline='', encoding='utf-8-sig') as f:
        reader, out = csv.DictReader(f), []
        names = reader.fieldnames or []
        for column in columns:
            if column not in names:
                raise SystemExit(f"'{path}' has no column '{column}', but "
                                 f"{names}; choose among these by --columns")
        for row in reader:
            texts = [row[column] for column in columns]
            if None in texts:
                raise SystemExit(f"'{path}', line {reader.line_num}: values "
                                 f"are missing; mend the row")
            out.append('. '.join(filter(None, map(str.strip, texts))))
        return out


def encode(texts, model, device=None):
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as e:
        raise SystemExit('First: pip install sentence-transformers') from e
    given = [i for i, text in enumerate(texts) if text]
    x = SentenceTransformer(model, device=device).encode(
        [texts[i] for i in given], batch_size=64, show_progress_bar=True)
    out = np.full((len(texts), x.shape[1]), np.nan, np.float32)
    out[given] = x
    return out


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('items')
    parser.add_argument('output')
    parser.add_argument('--columns', nargs='+', default=['title'])
    parser.add_argument('--model', default='all-MiniLM-L6-v2')
    parser.add_argument('--device')
    args = parser.parse_args()
    x = encode(read_texts(args.items, args.columns), args.model, args.device)
    np.save(args.output, x)
    print(f"{args.output}: {x.shape[0]} items, {x.shape[1]} features, "
          f"{np.isnan(x[:, 0]).sum()} without text")
