"""What the chart takes from elsewhere -> values.schema.json and README.md of the chart.

The configuration's schema (config/config.schema.json) becomes the schema of the value `config`, without keys being required
(the chart fills some), with secrets as references only, and with texts as texts only: the program reads `org_id: 0123456` as it is
written, but Helm makes numbers, truth values and octal numbers of what has no quotes. The table of values in README.md is made
from values.schema.json.
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
# What a value says that Helm has turned into something else: the words are those of the message, since a schema has no others.
QUOTED = {
    "const": "a text in quotes (on the command line: --set-string), since a number, true, on or yes without them is not passed on as written"
}
NO_TEXT = {"if": {"type": ["number", "boolean"]}, "then": {"$ref": "#/definitions/quoted"}}
REFERENCE = {"type": "string", "pattern": r"^\$\{[A-Za-z_][A-Za-z0-9_]*\}$"}


def expected():
    """Path -> text, as it should be."""
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    schema["definitions"] = {"quoted": QUOTED}
    schema["properties"]["config"] = config_schema()
    with_hints(schema)
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
    return texts_only(without_secrets(schema, is_root=True))


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


def texts_only(schema):
    """Copies a schema; what may be a text may not be a number or a truth value as well."""
    if isinstance(schema, list):
        return [texts_only(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    copied = {key: texts_only(part) for key, part in schema.items()}
    types = copied.get("type")
    if isinstance(types, list) and "string" in types:
        kept = [name for name in types if name not in ("number", "integer", "boolean")]
        copied["type"] = kept[0] if len(kept) == 1 else kept
    forms = copied.get("anyOf")
    # A number without a range is one that somebody wrote in place of a text.
    if isinstance(forms, list) and {"type": "number"} in forms:
        copied["anyOf"] = [form for form in forms if form != {"type": "number"}]
    return copied


def with_hints(schema):
    """Adds to every place of a text what to do about a number or a truth value there."""
    if isinstance(schema, list):
        for part in schema:
            with_hints(part)
    if not isinstance(schema, dict):
        return
    if is_text(schema):
        # Nothing else is said about a value that is no text.
        forms = {name: schema.pop(name) for name in ("type", "anyOf") if name in schema}
        schema.update(NO_TEXT, **{"else": forms})
        return
    for name, part in schema.items():
        if name == "properties":
            for inner in part.values():
                with_hints(inner)
        elif name in ("items", "additionalProperties", "anyOf"):
            with_hints(part)


def is_text(schema):
    """Whether a value is a text, perhaps null, and neither one of some words nor anything else."""
    forms = schema.get("anyOf", [schema])
    types = [form.get("type") for form in forms]
    types = {name for entry in types for name in (entry if isinstance(entry, list) else [entry])}
    return "string" in types and types <= {"string", "null"}


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
    part = {**part, **part.get("else", {})}
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
