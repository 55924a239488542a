"""A trained model outside of finegrid: as a file that other programs run."""

from finegrid.serving.onnx_export import OPSET, Exported, export
from finegrid.serving.verification import TOLERANCE, Verified, verify

__all__ = ["OPSET", "TOLERANCE", "Exported", "Verified", "export", "verify"]
