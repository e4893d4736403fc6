"""Models as files and as what can be asked; nothing here knows how one is made smaller.

::

    storage.py      ONNX files without their weights     graph.py      what a file says of itself
    session.py      sessions, as a model wants them      runner.py     the one way to ask a model
    specs.py        how inputs are described             graph_bounds.py  what ids are indices of
    sizes.py        open sizes by their names            made.py       values for an input
    fitting.py      sizes at which a graph runs          synthetic.py  inputs made up
    given.py        items of an .npz file                samples.py    samples of any kind of file
    inputs.py       examples, as a candidate feeds them  outputs.py    how far outputs lie apart
"""
