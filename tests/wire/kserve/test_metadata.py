from __future__ import annotations

import json

from trunkline.core.types import ModelCard
from trunkline.wire.kserve.metadata import (
    render_live,
    render_model,
    render_model_ready,
    render_ready,
    render_server,
)

# Names of fields: kserve/open-inference-protocol, specification/protocol/inference_rest.md
# (011728e).


def test_metadata() -> None:
    assert json.loads(render_server("1.2")) == {
        "name": "trunkline",
        "version": "1.2",
        "extensions": ["generate"],
    }
    card = ModelCard("caboose", 4096, architecture="llama")
    assert json.loads(render_model("m", card)) == {
        "name": "m",
        "versions": ["1"],
        "platform": "trunkline_llama",
        "inputs": [{"name": "text_input", "datatype": "BYTES", "shape": [1]}],
        "outputs": [{"name": "text_output", "datatype": "BYTES", "shape": [1]}],
    }
    assert json.loads(render_model("m", ModelCard("m", 1)))["platform"] == "trunkline"


def test_health() -> None:
    assert render_live() == b'{"live":true}'
    assert render_ready(ready=False) == b'{"live":false,"ready":false}'
    assert render_model_ready("m", ready=True) == b'{"name":"m","ready":true}'
