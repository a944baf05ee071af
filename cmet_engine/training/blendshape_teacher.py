"""MediaPipe's blendshape network, run on landmarks alone: the teacher of the solver. Needs torch; training only.

`face_landmarker.task` is a zip that holds `face_blendshapes.tflite`; its weights are read straight from the file, so that
any landmarks can be labelled, many at a time, pictures or not. The network is an MLP-Mixer (Tolstikhin et al. 2021)
over 146 of the landmarks in the plane (MediaPipe, model card "Blendshape V2"; the list and order of landmarks and names:
`face_blendshapes_graph.cc`).
"""

import zipfile
from pathlib import Path

import flatbuffers
import numpy as np
import torch
from torch.nn import functional as F

from cmet_engine import arkit
from cmet_engine.errors import InvalidInput

MEMBER = "face_blendshapes.tflite"

_INPUTS = (
    "0 1 4 5 6 7 8 10 13 14 17 21 33 37 39 40 46 52 53 54 55 58 61 63 65 66 67 70 78 80 81 82 84 87 88 91 93 95 103 105 107 109 "
    "127 132 133 136 144 145 146 148 149 150 152 153 154 155 157 158 159 160 161 162 163 168 172 173 176 178 181 185 191 195 197 "
    "234 246 249 251 263 267 269 270 276 282 283 284 285 288 291 293 295 296 297 300 308 310 311 312 314 317 318 321 323 324 332 "
    "334 336 338 356 361 362 365 373 374 375 377 378 379 380 381 382 384 385 386 387 388 389 390 397 398 400 402 405 409 415 454 "
    "466 468 469 470 471 472 473 474 475 476 477"
)
INPUTS = tuple(int(i) for i in _INPUTS.split())
"""The 146 landmarks that the teacher takes."""

OUTPUTS: tuple[str, ...] = ("_neutral", *sorted(name for name in arkit.NAMES if name != "tongueOut"))
"""Names of the teacher's 52 scores, in its order."""


class Teacher:
    """Landmarks in pixels -> the scores that MediaPipe's face landmarker reports, in canonical order."""

    def __init__(self, task: str | Path) -> None:
        try:
            with zipfile.ZipFile(task) as bundle:
                weights = tflite_tensors(bundle.read(MEMBER))
        except (OSError, KeyError, zipfile.BadZipFile) as error:
            raise InvalidInput(f"{task} is not MediaPipe's face_landmarker.task: {error}.") from error
        self._weights = {name: torch.from_numpy(value.astype(np.float32).squeeze()) for name, value in weights.items()}

    def _get(self, part: str) -> torch.Tensor:
        """The stored tensor whose name holds `part`."""
        return next(value for name, value in self._weights.items() if part in name)

    def _linear(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return F.linear(x, self._get(f"{name}/Conv2D"), self._get(f"{name}/BiasAdd"))

    @torch.no_grad()
    def __call__(self, landmarks: torch.Tensor) -> torch.Tensor:
        """Scores float32 [N, 52] in canonical order (`tongueOut` is 0) of landmarks [N, 478, 2 or 3] in pixels."""
        x = landmarks[:, list(INPUTS), :2].float()
        x = x - x.mean(1, keepdim=True)
        x = 0.5 * x / x.norm(dim=2).mean(1)[:, None, None]  # [N, 146, 2]
        x = self._linear(x.transpose(1, 2), "General/conv2d").transpose(1, 2)  # [N, 96, 2]
        x = self._linear(x, "input_tokens_embedding")  # [N, 96, 64]
        x = torch.cat([self._get("AddExtraTokens").expand(len(x), 1, -1), x], 1)  # [N, 97, 64]
        for block in range(4):
            name = f"MixerBlock_{block}/"
            y = self._norm(x, name + "layer_norm1").transpose(1, 2)  # [N, 64, 97]
            y = self._linear(F.relu(self._linear(y, name + "mlp_token_mixing/Mlp_1")), name + "mlp_token_mixing/Mlp_2")
            x = x + y.transpose(1, 2)
            y = self._norm(x, name + "layer_norm2")
            x = x + self._linear(
                F.relu(self._linear(y, name + "mlp_channel_mixing/Mlp_1")), name + "mlp_channel_mixing/Mlp_2"
            )
        scores = torch.sigmoid(self._linear(x[:, 0], "output_blendweights"))  # [N, 52]
        result = torch.zeros(len(scores), arkit.COUNT)
        for column, name in enumerate(OUTPUTS):
            if name in arkit.INDEX:
                result[:, arkit.INDEX[name]] = scores[:, column]
        return result

    def _norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return F.layer_norm(x, x.shape[-1:], self._get(f"{name}/batchnorm/mul"), eps=1e-6)


_TYPES = {0: np.float32, 1: np.float16, 2: np.int32}  # of TensorFlow Lite's TensorType


def tflite_tensors(data: bytes) -> dict[str, np.ndarray]:
    """Every stored array of a TensorFlow Lite model by its name (the flatbuffer schema is `schema.fbs`, version 3)."""
    root = flatbuffers.table.Table(bytearray(data), int.from_bytes(data[:4], "little"))

    def vector(table: flatbuffers.table.Table, slot: int) -> list[flatbuffers.table.Table]:
        offset = table.Offset(4 + 2 * slot)
        if not offset:
            return []
        start = table.Vector(offset)
        return [
            flatbuffers.table.Table(table.Bytes, table.Indirect(start + 4 * i)) for i in range(table.VectorLen(offset))
        ]

    def number(table: flatbuffers.table.Table, slot: int, flags: type) -> int:
        offset = table.Offset(4 + 2 * slot)
        return table.Get(flags, offset + table.Pos) if offset else 0

    number_types = flatbuffers.number_types
    buffers = vector(root, 4)
    result = {}
    for tensor in vector(vector(root, 2)[0], 0):
        kind = number(tensor, 1, number_types.Int8Flags)
        buffer = buffers[number(tensor, 2, number_types.Uint32Flags)]
        offset = buffer.Offset(4)
        if kind not in _TYPES or not offset:
            continue
        values = buffer.GetVectorAsNumpy(number_types.Uint8Flags, offset)
        shape_offset = tensor.Offset(4)
        shape = tensor.GetVectorAsNumpy(number_types.Int32Flags, shape_offset) if shape_offset else []
        name_offset = tensor.Offset(4 + 2 * 3)
        name = tensor.String(name_offset + tensor.Pos).decode()
        result[name] = np.frombuffer(values.tobytes(), _TYPES[kind]).reshape(shape)
    return result
