"""What ViT and its kin have in common; the fifth transformers renamed their parts."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from edgecompress.surgery.families._family import Family


def vision(model_type: str) -> Family:
    """Describe ViT and what keeps its shape, as the installed transformers builds it."""
    if _edition() < 5:
        inner = "attention.attention"
        return Family(
            model_type,
            words="",
            attention=inner,
            query=f"{inner}.query",
            key=f"{inner}.key",
            value=f"{inner}.value",
        )
    return Family(
        model_type,
        layers="layers",
        words="",
        attention="attention",
        query="attention.q_proj",
        key="attention.k_proj",
        value="attention.v_proj",
        output="attention.o_proj",
        ffn_in="mlp.fc1",
        ffn_out="mlp.fc2",
        head_size_attribute="head_dim",
    )


def _edition() -> int:
    try:
        return int(version("transformers").partition(".")[0])
    except PackageNotFoundError:  # a recipe is checked without it
        return 5
