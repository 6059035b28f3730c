#!/usr/bin/env bash
# A sentence to its embedding with curl: KEY=pm_... examples/clients/curl.sh '["the points are set"]'
set -euo pipefail
SENTENCES=${1:-'["the points are set"]'}
curl -sS --fail-with-body "http://${ADDRESS:-127.0.0.1:8000}/v2/models/minilm/infer" \
    -H "Authorization: Bearer $KEY" -H "Content-Type: application/json" \
    --data-binary @- <<<'{"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": '"$SENTENCES"'}]}'
