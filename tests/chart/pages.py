"""What the chart takes from elsewhere -> values.schema.json and README.md of the chart.

The configuration's schema (config/config.schema.json) becomes the schema of the value `config`, without keys being required
(the chart fills some) and with secrets as references only; the table of values in README.md is made from values.schema.json.
"""

import copy
import json
import re

import yaml

from tools import CHART, REPOSITORY

SCHEMA = CHART / "values.schema.json"
README = CHART / "README.md"
BEGIN = "<!-- made from values.schema.json: scripts/test_chart.sh --update -->\n"
END = "<!-- end of the table -->"
REFERENCE = {"type": "string", "pattern": r"^\$\{[A-Za-z_][A-Za-z0-9_]*\}$"}


def expected():
    """Path -> text, as it should be."""
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    schema["properties"]["config"] = config_schema()
    readme = README.read_text(encoding="utf-8")
    head, _, rest = readme.partition(BEGIN)
    _, _, tail = rest.partition(END)
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    return {
        SCHEMA: json.dumps(schema, indent=2, ensure_ascii=False) + "\n",
        README: f"{head}{BEGIN}{table(schema, values)}{END}{tail}",
    }


def config_schema():
    """The program's own schema, as far as it holds for a configuration that the chart completes."""
    schema = json.loads((REPOSITORY / "config/config.schema.json").read_text(encoding="utf-8"))
    schema = {key: value for key, value in schema.items() if key not in ("$schema", "title", "anyOf")}
    schema["description"] = (
        "The program's configuration (config/config.yaml in the repository shows every key); s3, postgres and metrics "
        "fill in what they say. Secrets are references such as ${NAME} only: this becomes a ConfigMap."
    )
    return without_secrets(schema, is_root=True)


def without_secrets(schema, is_root=False):
    """Copies a schema; drops `required` of sections, allows only references where a secret is meant."""
    schema = copy.deepcopy(schema)
    if "never printed" in schema.get("description", ""):
        return {"description": schema["description"], "anyOf": [REFERENCE, {"type": "null"}]}
    if "properties" in schema and (is_root or "description" in schema):
        schema.pop("required", None)
        schema["properties"] = {name: without_secrets(part) for name, part in schema["properties"].items()}
        for name in {"url", "endpoint"} & schema["properties"].keys():
            schema["properties"][name]["not"] = {"type": "string", "pattern": "//[^/]*@"}
    return schema


def leaves(schema, path=()):
    """(path, schema) of every value; a section is no value, and the configuration counts as one."""
    for name, part in schema["properties"].items():
        here = (*path, name)
        if "properties" in part and here not in [("config",), ("podSecurityContext",), ("affinity",), ("resources",)]:
            yield here, part, True
            yield from leaves(part, here)
        else:
            yield here, part, False


def table(schema, values):
    """The values as Markdown."""
    lines = ["| value | kind | default | meaning |", "|---|---|---|---|"]
    for path, part, is_section in leaves(schema):
        name = ".".join(path)
        if is_section:
            lines.append(f"| **`{name}`** | | | {cell(part['description'])} |")
            continue
        if path == ("global",):
            continue
        default = values
        for key in path:
            default = default[key]
        lines.append(f"| `{name}` | {kind(part)} | `{json.dumps(default)}` | {cell(part['description'])} |")
    return "\n".join(lines) + "\n"


def kind(part):
    """Type, choices and range in a few words."""
    if "enum" in part:
        return ", ".join(part["enum"])
    if "anyOf" in part:
        return "text or number"
    types = part["type"] if isinstance(part["type"], list) else [part["type"]]
    words = {"string": "text", "integer": "whole number", "boolean": "true or false", "object": "map", "array": "list"}
    text = " or ".join(words.get(word, word) for word in types)
    low, high = part.get("minimum"), part.get("maximum")
    if low is not None:
        text += f", {low} to {high}" if high is not None else f", at least {low}"
    return text


def cell(text):
    """Text that does not break a table."""
    return re.sub(r"\s+", " ", text).replace("|", "\\|").replace("<", "&lt;")


def without_description(schema, path="values"):
    """Keys of the chart's own sections that say nothing about themselves."""
    found = []
    for name, part in schema.get("properties", {}).items():
        if not part.get("description"):
            found.append(f"{path}.{name}")
        found += without_description(part, f"{path}.{name}")
        if not path.startswith("values.config"):
            found += without_description(part.get("items", {}), f"{path}.{name}[]")
    return found


def undeclared(schema, values, path=""):
    """Keys of values.yaml that the schema lacks, and keys of the schema that values.yaml lacks."""
    found = []
    properties = schema.get("properties")
    if properties is None or path in (".config", ".podSecurityContext", ".affinity", ".resources"):
        return found
    if schema.get("additionalProperties") is not False:
        found.append(f"values.schema.json: {path or 'the top'} is not closed")
    for name in properties.keys() - values.keys() - {"global"}:
        found.append(f"values.yaml lacks {path}.{name}")
    for name in values.keys() - properties.keys():
        found.append(f"values.schema.json lacks {path}.{name}")
    for name in properties.keys() & values.keys():
        if isinstance(values[name], dict):
            found += undeclared(properties[name], values[name], f"{path}.{name}")
    return found
