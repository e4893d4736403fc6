"""Bundles: the directory that deploys a model, and the one file that carries it.

::

    directory.py   write, verify and load a bundle
    manifest.py    manifest.json: what it says, read without trusting it
    digests.py     the lists of digests            names.py        which file names may be in it
    strictjson.py  JSON from a stranger            sbom.py         the bill of materials
    card.py        the model card                  signature.py    who made it
    packing.py     NAME.tar.zst, made of           tarball.py and  zstdframe.py

docs/bundle.md describes the format.
"""

from __future__ import annotations

from edgecompress.bundle.directory import load_bundle, load_manifest, verify_bundle, write_bundle

__all__ = ["load_bundle", "load_manifest", "verify_bundle", "write_bundle"]
