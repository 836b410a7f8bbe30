"""A causal 3-D decoder as an ONNX file in which no tensor has more than four axes, run in ONNX Runtime.

    python examples/use_runtime.py

For runtimes without Conv3d: phones, browsers, NPUs. Needs ``flatconv[onnx]``.
"""

import tempfile
from pathlib import Path

import onnx
import onnxruntime
import torch

import flatconv
from flatconv import examples

vae = examples.image_vae()
z = torch.randn(1, 16, 1, 16, 16)
flat = flatconv.fold(vae, (z,), method="decode", rank4=True)

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "decoder.onnx"
    made = flat.export(path)
    graph = onnx.shape_inference.infer_shapes(onnx.load(path)).graph
    session = onnxruntime.InferenceSession(path)

print("inputs:", made.inputs)
print("run and compared in:", {name: f"{apart:.0e}" for name, apart in made.differences.items()})
values = [*graph.input, *graph.value_info, *graph.output]
print("largest rank:", max(len(v.type.tensor_type.shape.dim) for v in values))
print("operators:", ", ".join(sorted({n.op_type for n in graph.node})))

z = torch.randn(2, 16, 1, 8, 24)
(picture,) = session.run(None, {session.get_inputs()[0].name: z.squeeze(2).numpy()})
with torch.no_grad():
    wanted = vae.decode(z)
apart = float((torch.from_numpy(picture) - wanted.squeeze(2)).abs().max())
print(f"another size: {picture.shape}, largest difference {apart:.1e}")
