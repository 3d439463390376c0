def flat(config, prefix=''):
    r"""Returns the values of a model's configuration by dotted keys, as its
    spaces and plans name them.
    """
    out = {}
    for key, value in config.items():
        if key == 'models':  # The parts of a fusion.
            value = {str(i): part for i, part in enumerate(value)}
        out.update(flat(value, f'{prefix}{key}.') if isinstance(value, dict)
                   else {f'{prefix}{key}': value})
    return out
