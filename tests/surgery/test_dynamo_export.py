"""How PyTorch's exporter is asked; what it writes is tested where models are exported."""

from __future__ import annotations

import pytest

from edgecompress.surgery.dynamo_export import _signatures_unread


def test_torch_is_told_of_the_same_functions_without_their_source(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from onnxscript._framework_apis.torch_2_5 import get_torchlib_ops
    from onnxscript._internal import ast_utils

    known = get_torchlib_ops()
    parsed: list[object] = []
    parse = ast_utils.get_src_and_ast
    monkeypatch.setattr(
        ast_utils, "get_src_and_ast", lambda function: parsed.append(function) or parse(function)
    )
    with _signatures_unread():
        assert get_torchlib_ops() == known
    assert not parsed
    assert get_torchlib_ops() == known
    assert len(parsed) > 400
