#!/usr/bin/env python3
"""Renders chat/NAME.jinja with the conversation in chat/NAME.json to chat/NAME.txt, in the set-up of Jinja2 that
transformers uses for chat templates.

    pip install jinja2          # made with 3.1.6
    python make_chat.py
"""
import json
from pathlib import Path

from jinja2.sandbox import ImmutableSandboxedEnvironment


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
environment.filters["tojson"] = tojson
for path in (Path(__file__).parent / "chat").glob("*.jinja"):
    conversation = json.loads(path.with_suffix(".json").read_text())
    template = environment.from_string(path.read_text())
    text = template.render(**conversation, documents=None, add_generation_prompt=True, bos_token="<bos>")
    path.with_suffix(".txt").write_text(text)
