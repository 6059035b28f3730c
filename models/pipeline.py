"""Text to tensors: tokenise sentences for a text model. Runs in the replica, one object per model.

Owns no thread: sentences are encoded one by one, because the tokenizer's own pool of threads would compete with the
inference runtime for the cores. Padding inside a batch of several requests is models/tensors.py's.
"""

from __future__ import annotations

import numpy as np
from tokenizers import Encoding, Tokenizer

from models.repository import RepositoryError, read_tokenizer
from models.spec import ModelSpec
from models.tensors import Arrays, TensorError

MAX_TEXT_BYTES = 64 * 1024
"""Of one sentence. A tokenizer reads a whole text before it cuts it: about a second per megabyte of its lane's time."""

_COLUMNS = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
"""Graph input to the attribute of an Encoding that fills it."""


class TextPipeline:
    """The tokenizer of one text model. Raises RepositoryError if the file or the model's inputs do not suit."""

    def __init__(self, spec: ModelSpec) -> None:
        content = read_tokenizer(spec)
        assert spec.text is not None  # read_tokenizer refuses a model without text
        for tensor in spec.inputs:
            if tensor.name not in _COLUMNS or tensor.datatype != "INT64" or len(tensor.shape) != 2:
                raise RepositoryError(f"{spec.name}: a tokenizer cannot fill {tensor.datatype} input {tensor.name}")
        self._name = spec.text.tensor.name
        self._inputs = spec.inputs
        self._tokenizer: Tokenizer = Tokenizer.from_buffer(content)
        self._tokenizer.enable_truncation(spec.text.max_tokens)
        self._tokenizer.no_padding()

    def encode(self, texts: np.ndarray) -> Arrays:
        """Token arrays INT64 [batch, longest] by input name, for an object array [batch] of UTF-8 bytes.

        Longer sentences are cut to the model's max_tokens. Raises TensorError for bytes that are not UTF-8.
        """
        encodings = [self._encode(index, text) for index, text in enumerate(texts.tolist())]
        longest = max(len(encoding) for encoding in encodings)
        arrays = {}
        for tensor in self._inputs:
            array = np.full((len(encodings), longest), tensor.pad, np.int64)
            for row, encoding in zip(array, encodings, strict=True):
                row[: len(encoding)] = getattr(encoding, _COLUMNS[tensor.name])
            arrays[tensor.name] = array
        return arrays

    def _encode(self, index: int, text: bytes) -> Encoding:
        if len(text) > MAX_TEXT_BYTES:
            raise TensorError("too_large", f"{self._name}[{index}]: {len(text)} bytes, at most {MAX_TEXT_BYTES}")
        try:
            return self._tokenizer.encode(text.decode())
        except UnicodeDecodeError as error:
            fault = f"UTF-8 expected, got {error.reason} at byte {error.start}"
            raise TensorError("malformed", f"{self._name}[{index}]: {fault}") from None
