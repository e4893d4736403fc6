"""Word pieces taken out of a tokenizer for good, and their rows out of the model.

`pieces` reads a ``tokenizer.json``, `alphabet` says what any text needs to be split, `choice` which
pieces stay, `files` writes the smaller tokenizer, `splitting` compares it with the original on
texts, and `embedding` cuts the model. Only `embedding` needs torch.
"""
