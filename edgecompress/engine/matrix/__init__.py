"""A matrix: one recipe for several languages, seeds or checkpoints, run as one and shown as one.

`cells` reads it and makes the recipes, `run` runs them one after the other and can go on later;
what all of them found together is drawn by `edgecompress.report.matrix`.
"""

from edgecompress.engine.matrix.cells import Matrix, MatrixCell, read_matrix, select

__all__ = ["Matrix", "MatrixCell", "read_matrix", "select"]
