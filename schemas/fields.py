"""How fields are written: every one with its unit and a description, which travel in the Arrow metadata."""

import pyarrow as pa


def field(
    name: str, type_: pa.DataType, description: str, *, unit: str | None = None, nullable: bool = True
) -> pa.Field:
    """One column of a schema. `unit` is an SI symbol or a counted thing ("s", "Hz", "ticks", "letters")."""
    metadata = {"description": description} | ({"unit": unit} if unit else {})
    return pa.field(name, type_, nullable=nullable, metadata=metadata)
