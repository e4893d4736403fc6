"""Channels of convolutions: which ones hang together, and how they are taken out of any module.

`labels` says of every index of every axis which channel it is; `operations` how each operation of
PyTorch passes that on; `groups` runs a module once and gives the channels that can go, layer by
layer; `cutting` takes them out and gives a module's layers other sizes when it is loaded again.

The idea of such a graph of dependencies is that of Fang et al., 2023, "DepGraph: towards any
structural pruning". Here it is read from the operations that run, not from gradients, and a channel
that meets an operation without a rule stays: what is not understood is never cut.
"""
