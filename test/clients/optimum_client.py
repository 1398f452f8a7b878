"""optimum's ORTModelForCausalLM, from folders and from an imitation of the Hub: python optimum_client.py OUT.

Needs optimum-onnx, onnxruntime, torch. The imitation answers on this machine only; nothing is asked of huggingface.co.
"""

import hashlib
import http.server
import json
import os
import sys
import tempfile
import threading

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OUT = os.path.abspath(sys.argv[1])
SERVED = []


class Hub(http.server.BaseHTTPRequestHandler):
    """The few answers of huggingface.co that huggingface_hub asks for: files, their list, the facts of a repository."""

    def answer(self, code, body=b"", headers=()):
        self.send_response(code)
        for key, value in (*headers, ("X-Repo-Commit", COMMIT), ("Content-Length", str(len(body)))):
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def missing(self):
        self.answer(404, b"{}", [("X-Error-Code", "EntryNotFound")])

    def do_GET(self):
        parts = self.path.split("?")[0].strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            folder = os.path.join(OUT, parts[3])
            files = [
                os.path.relpath(os.path.join(root, name), folder) for root, _, names in os.walk(folder) for name in names
            ]
            if "tree" in parts:
                rows = [
                    {"type": "file", "path": name, "size": os.path.getsize(os.path.join(folder, name)), "oid": COMMIT}
                    for name in files
                ]
                return self.answer(200, json.dumps(rows).encode(), [("Content-Type", "application/json")])
            facts = {"id": f"local/{parts[3]}", "sha": COMMIT, "siblings": [{"rfilename": name} for name in files]}
            return self.answer(200, json.dumps(facts).encode(), [("Content-Type", "application/json")])
        if len(parts) > 4 and parts[2] == "resolve":
            path = os.path.join(OUT, parts[1], *parts[4:])
            if not os.path.isfile(path):
                return self.missing()
            with open(path, "rb") as file:
                body = file.read()
            SERVED.append("/".join(parts[4:]))
            return self.answer(200, body, [("ETag", f'"{hashlib.sha256(body).hexdigest()}"')])
        return self.missing()

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
threading.Thread(target=server.serve_forever, daemon=True).start()
# Before the import, which reads them.
os.environ["HF_ENDPOINT"] = f"http://127.0.0.1:{server.server_port}"
os.environ["HF_HOME"] = tempfile.mkdtemp()
os.environ["HF_HUB_DISABLE_XET"] = "1"

import importlib.metadata  # noqa: E402

import torch  # noqa: E402
from compare import compare, references  # noqa: E402
from optimum.onnxruntime import ORTModelForCausalLM  # noqa: E402

versions = [f"{name} {importlib.metadata.version(name)}" for name in ("optimum-onnx", "transformers", "onnxruntime")]
print(", ".join(versions))


def check(name, place, reference):
    subfolder, file_name = os.path.split(reference["model"])
    model = ORTModelForCausalLM.from_pretrained(place, subfolder=subfolder, file_name=file_name)
    inputs = torch.tensor([reference["prompt"]])
    mask = torch.ones_like(inputs)
    logits = model(input_ids=inputs, attention_mask=mask).logits[0, -1].float().tolist()
    count = len(reference["tokens"])
    ids = model.generate(input_ids=inputs, attention_mask=mask, max_new_tokens=count, do_sample=False)
    return compare(name, reference, ids[0, inputs.shape[1] :].tolist(), logits)


results = []
for name, folder, reference in references(OUT):
    results.append(check(f"{name}, from its folder", folder, reference))
    results.append(check(f"{name}, from the imitation of the Hub", f"local/{name}", reference))
print("data files that were asked for:", ", ".join(sorted({name for name in SERVED if name.endswith("_data")})) or "none")
sys.exit(0 if results and all(results) else 1)
