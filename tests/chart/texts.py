"""Rendered manifests and configurations -> places where a text has become something else."""

# Fields of manifests whose values are texts, wherever they stand, or maps of texts.
TEXT_FIELDS = {
    "name", "namespace", "serviceAccountName", "secretName", "priorityClassName", "key", "value", "image", "schedule", "timeZone",
    "mountPath", "path", "severity", "interval", "summary", "description",
}
TEXT_MAPS = {"labels", "annotations", "matchLabels", "nodeSelector", "data"}


def not_texts(node, path=""):
    """Places of manifests that must hold a text and do not."""
    found = []
    if isinstance(node, list):
        for index, item in enumerate(node):
            found += not_texts(item, f"{path}[{index}]")
    if not isinstance(node, dict):
        return found
    for key, value in node.items():
        here = f"{path}.{key}"
        if isinstance(value, (dict, list)):
            found += not_texts(value, here)
        elif key in TEXT_FIELDS and not isinstance(value, str):
            found.append(f"{here} is {value!r} and no text")
        if key in TEXT_MAPS and isinstance(value, dict):
            found += [f"{here}.{name} is {inner!r} and no text" for name, inner in value.items() if not isinstance(inner, str)]
    return found


def leaves(node, path=()):
    """(path, text) of every text in a tree."""
    if isinstance(node, str):
        return [(path, node)]
    if isinstance(node, dict):
        return [leaf for key, value in node.items() for leaf in leaves(value, (*path, key))]
    if isinstance(node, list):
        return [leaf for index, value in enumerate(node) for leaf in leaves(value, (*path, index))]
    return []


def changed(expected, tree, where):
    """Texts that a tree lacks or has in another form."""
    found = []
    for path, text in expected:
        node = tree
        for key in path:
            node = node[key] if isinstance(node, list) or key in node else None
            if node is None:
                break
        # A date is a value of its own to this reader of YAML.
        if not (isinstance(node, str) and node == text) and not (path[0] == "period" and str(node) == text):
            found.append(f"{'.'.join(map(str, path))}: {text!r} is {node!r} as {where}")
    return found
