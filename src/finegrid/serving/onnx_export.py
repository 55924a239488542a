"""A trained model as one ONNX file, compared with the model before it is written.

    finegrid export model/ --out model.onnx

The graph holds all that lies between coarse and fine fields in physical units: transforms and their inverses, static
fields, the mean downscaler, networks, the constraint. Whoever runs it needs no finegrid. What the axes and channels
are stands in the metadata of the file, as JSON.
"""

from __future__ import annotations

import json
import logging
import secrets
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import xarray as xr

from finegrid import __version__
from finegrid.conventions import InputError
from finegrid.data.write import Failures
from finegrid.downscalers import Downscaler, load
from finegrid.pipeline.naming import name_of
from finegrid.serving.graph import Graph
from finegrid.serving.signature import Signature, axes
from finegrid.serving.verification import Verified, verify

OPSET = 20
"""Version of the ONNX operators, of early 2024."""
_OPSETS = range(18, 24)
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_OUTPUT = "fine"


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        path: the file.
        inputs: names of the inputs of the graph.
        verified: how it compares with the model.
        size: bytes of the file.
        notes: what else a user should know.
    """

    path: Path
    inputs: tuple[str, ...]
    verified: Verified
    size: int
    notes: tuple[str, ...] = ()

    @property
    def departure(self) -> float:
        """The largest difference from the model's answer, in parts of the range of a field."""
        return self.verified.largest


def export(
    model: str | Path | Downscaler, out: str | Path, *, example: xr.Dataset | None = None, opset: int = OPSET
) -> Exported:
    """Write a model as an ONNX file; an existing one is replaced when the new one is complete and verified.

    Args:
        model: model folder, or a fitted downscaler.
        out: the file to write, .onnx.
        example: coarse fields by which the graph is compared with the model; None draws fields like those of training.
        opset: version of the ONNX operators.

    Raises:
        InputError: when the model cannot be exported, or the graph does not answer as the model does.
    """
    target = _checked(Path(out))
    if opset not in _OPSETS:
        raise InputError(
            f"got opset {opset}; expected {_OPSETS.start} to {_OPSETS.stop - 1}; leave --opset out for the usual one"
        )
    _need_packages()
    downscaler = model if isinstance(model, Downscaler) else load(model)
    signature = Signature.of(downscaler)
    graph = Graph(downscaler, signature).eval()
    made = traced(graph, signature, opset)
    verified = verify(made.SerializeToString(), downscaler, example)
    verified.check()
    _describe(made, facts_of(downscaler, signature, verified))
    content = made.SerializeToString()
    _write(target, content)
    return Exported(target, signature.names, verified, len(content), tuple(_notes(signature)))


def traced(graph: Graph, signature: Signature, opset: int) -> Any:
    """The ONNX model of a graph, without the traces of the source that torch leaves in it."""
    batch = torch.export.Dim("batch")
    inputs = tuple(torch.zeros(shape) for shape in _shapes(signature))
    with _quietly(), torch.no_grad():
        program = torch.onnx.export(
            graph,
            inputs,
            dynamo=True,
            dynamic_shapes=(tuple({0: batch} for _ in inputs),),
            input_names=list(signature.names),
            output_names=[_OUTPUT],
            opset_version=opset,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export gave no program")
    return _bare(program.model_proto)


def _shapes(signature: Signature) -> Iterator[tuple[int, ...]]:
    """Shapes of the inputs with two samples; one would be taken for a constant."""
    inputs, frames = signature.domain.inputs, len(signature.frames)
    fields = {
        "coarse": (frames * len(inputs.channels), *inputs.grid.shape),
        "conserved": (len(inputs.variables), *inputs.conserved_grid.shape),
        "around": (frames * len(inputs.channels), *signature.around.shape),
        "scores": (len(signature.domain.outputs), *signature.domain.grid.shape),
    }
    return ((2, *fields.get(name, ())) for name in signature.names)


def _bare(model: Any) -> Any:
    graphs = [model.graph]
    while graphs:
        graph = graphs.pop()
        for node in graph.node:
            node.ClearField("metadata_props")
            node.ClearField("doc_string")
            graphs += [each.g for each in node.attribute if each.HasField("g")]
        for value in (*graph.value_info, *graph.input, *graph.output, *graph.initializer):
            value.ClearField("metadata_props")
        graph.ClearField("metadata_props")
    model.ClearField("metadata_props")
    return model


def facts_of(downscaler: Downscaler, signature: Signature, verified: Verified) -> dict[str, Any]:
    """The metadata of the file: what goes in, what comes out, what it was made from, how it was compared."""
    domain = downscaler.domain
    output = {
        "name": _OUTPUT,
        "type": "float32",
        "dims": ["batch", "channel", "y", "x"],
        "channels": [{"name": name, "units": domain.inputs.units[name]} for name in domain.outputs],
        "grid": axes(domain.true_grid),
    }
    return {
        "finegrid_version": __version__,
        "finegrid_method": name_of(downscaler),
        "finegrid_model": downscaler.digest,
        "finegrid_inputs": signature.described(),
        "finegrid_output": output,
        "finegrid_time": _time_words(signature),
        "finegrid_missing": _missing_words(signature),
        "finegrid_verified": {
            "departure": verified.departure,
            "conservation_violation": verified.violation,
            "times": verified.times,
            "fields": verified.fields,
        },
        "finegrid_conservation": verified.conservation,
    }


def _time_words(signature: Signature) -> str:
    frames = (
        "channels of a step other than 0 are the fields so many steps later; where the record has none, give those of "
        "the time itself"
    )
    clock = "hour and phase_of_year are those of the date, in its own calendar"
    found = [words for words, said in ((frames, len(signature.frames) > 1), (clock, signature.clock)) if said]
    return "; ".join(found) or "samples are independent and dates do not matter"


def _missing_words(signature: Signature) -> str:
    words = "NaN is a missing value; the fine cells of a missing coarse cell, and those outside the mask, are NaN"
    return f"{words}; a missing value of conserved makes its field NaN" if signature.sees_own else words


def _notes(signature: Signature) -> Iterator[str]:
    if signature.draws:
        yield (
            "the input scores makes a member: 0 gives the median of every cell; members need standard normal fields as "
            "smooth as errors are"
        )
    if signature.sees_own or signature.domain.remapped:
        yield (
            "the coarse file's cells are no blocks of fine cells: the input coarse is on blocks (area means of the "
            "file's cells; the axes stand in the metadata)"
        )


def _describe(model: Any, facts: dict[str, Any]) -> None:
    from onnx import helper

    text = {key: value if isinstance(value, str) else json.dumps(value) for key, value in facts.items()}
    helper.set_model_props(model, text)
    model.producer_name, model.producer_version = "finegrid", __version__


def _write(path: Path, content: bytes) -> None:
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    with Failures(path):
        try:
            part.write_bytes(content)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


def _checked(path: Path) -> Path:
    path = path.expanduser()
    if path.suffix != ".onnx":
        raise InputError(f"cannot write {path}; expected a name that ends in .onnx. Rename the output")
    if not path.parent.is_dir():
        raise InputError(
            f"there is no folder {path.parent} to write {path.name} to. Create it with `mkdir -p {path.parent}`"
        )
    if path.is_dir():
        raise InputError(f"{path} is a folder; expected the name of a file. Choose another path")
    return path


def _need_packages() -> None:
    import importlib.util

    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"{', '.join(missing)} is not installed; expected it to export a model; run `pip install 'finegrid[onnx]'`"
        )


@contextmanager
def _quietly() -> Iterator[None]:
    """What torch says of its own future and of packages that are not needed is no news to users."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
