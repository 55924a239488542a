"""Damage, of bytes and of meaning; both are functions of a generator, so that they can be made again.

Bytes are flipped, overwritten, cut out, doubled or inserted, and the end is cut off. Texts that have a structure (JSON,
YAML, the head of a safetensors file) are also taken apart: a value becomes one of another type, or an extreme one; a
key is left out, renamed, or there twice; and put together again.
"""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

_JSON = (".json", ".jsonl", ".zarray", ".zattrs", ".zgroup", ".zmetadata")
_YAML = (".yaml", ".yml")
_DEEP = "deep-deep-deep"


def mutated(content: bytes, name: str, random: np.random.Generator) -> bytes:
    """A damaged file; every other one that has a structure is damaged in its meaning.

    Args:
        content: of the good file.
        name: of the file.
        random: decides everything.
    """
    meant = random.random() < 0.5
    try:
        changed = of_meaning(content, name, random) if meant else None
    except (ValueError, RecursionError, yaml.YAMLError):
        changed = None
    return of_bytes(content, random) if changed is None else changed


def of_meaning(content: bytes, name: str, random: np.random.Generator) -> bytes | None:
    """The text with one to three of its values changed; None of a file without such a structure."""
    if name.endswith(".safetensors"):
        size = 8 + int.from_bytes(content[:8], "little")
        head = _json_text(json.loads(content[8:size]), random).encode()
        return len(head).to_bytes(8, "little") + head + content[size:]
    if name.endswith(".jsonl"):
        lines = content.decode().splitlines()
        places = [number for number, line in enumerate(lines) if line]
        chosen = places[int(random.integers(len(places)))]
        lines[chosen] = _json_text(json.loads(lines[chosen]), random)
        return "\n".join(lines).encode()
    if name.endswith(_JSON) or name in _JSON:
        return _json_text(json.loads(content), random).encode()
    return _yaml_text(yaml.safe_load(content), random).encode() if name.endswith(_YAML) else None


def _json_text(values: Any, random: np.random.Generator) -> str:
    text = _deepened(json.dumps(_changed(values, random)), f'"{_DEEP}"', random)
    return _key_twice(text, values, random) if random.random() < 0.1 and isinstance(values, dict) else text


def _deepened(text: str, mark: str, random: np.random.Generator) -> str:
    """With lists in lists where the mark is; not made as values, for no encoder goes so deep."""
    depth = int(random.choice([40, 300, 20_000]))
    return text.replace(mark, "[" * depth + "]" * depth)


def _key_twice(text: str, values: dict[str, Any], random: np.random.Generator) -> str:
    key = list(values)[int(random.integers(len(values)))]
    return "{" + f"{json.dumps(key)}: {json.dumps(_odd(values, random))}," + text[1:]


def _yaml_text(values: Any, random: np.random.Generator) -> str:
    text = _deepened(yaml.safe_dump(_changed(values, random), sort_keys=False), _DEEP, random)
    extra = random.random()
    if extra < 0.1 and isinstance(values, dict):
        return text + f"\n{list(values)[int(random.integers(len(values)))]}: 1\n"
    return text + _LAUGHS if extra < 0.15 else text


_LAUGHS = "\na0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))


def _changed(values: Any, random: np.random.Generator) -> Any:
    changed = copy.deepcopy(values)
    for _ in range(int(random.integers(1, 4))):
        places = _places(changed)
        if not places:
            return _odd(values, random)
        holder, key = places[int(random.integers(len(places)))]
        what = random.random()
        if what < 0.7:
            holder[key] = _odd(changed, random, holder[key])
        elif what < 0.85:
            del holder[key]
        elif isinstance(holder, dict):
            holder[f"{key}_"] = holder.pop(key)
        else:
            holder.insert(key, copy.deepcopy(holder[key]))
    return changed


def _places(values: Any) -> list[tuple[Any, Any]]:
    """Every value within, by what holds it and where; of long lists some."""
    found: list[tuple[Any, Any]] = []
    level = [values]
    while level:
        holders = [each for each in level if isinstance(each, dict | list)]
        here = [(holder, key) for holder in holders for key in _keys(holder)]
        found, level = found + here, [holder[key] for holder, key in here]
    return found


def _keys(holder: Any) -> list[Any]:
    return list(holder) if isinstance(holder, dict) else list(range(min(len(holder), 8)))


def _odd(values: Any, random: np.random.Generator, before: Any = None) -> Any:
    """Another value: of another type, extreme, or one from elsewhere in the document."""
    choice = int(random.integers(len(_ODD) + 3))
    if choice < len(_ODD):
        return copy.deepcopy(_ODD[choice])
    if choice == len(_ODD) and isinstance(before, int | float):
        return -before if random.random() < 0.5 else before * 10**9
    places = _places(values)
    if choice == len(_ODD) + 1 or not places:
        return list(range(1000))
    holder, key = places[int(random.integers(len(places)))]
    return copy.deepcopy(holder[key])


_ODD: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1,
    2**31,
    2**63,
    10**30,
    1e308,
    -0.5,
    float("nan"),
    float("inf"),
    "",
    "x",
    "1",
    _DEEP,
    "x" * 100_000,
    "../../../etc/passwd",
    "/etc/passwd",
    "a\0b",
    "\ud800",
    "https://user:secret@example.org/a.nc?sig=secret",
    [],
    {},
    [None],
    {"name": "x"},
)


def of_bytes(content: bytes, random: np.random.Generator) -> bytes:
    """The content with one to four things done to its bytes."""
    values = np.frombuffer(content, dtype=np.uint8)
    for _ in range(int(random.integers(1, 5))):
        values = _WAYS[int(random.integers(len(_WAYS)))](values, random)
    return values.tobytes()


def _place(values: NDArray[np.uint8], random: np.random.Generator) -> tuple[int, int]:
    """Where something happens and how much; heads of files, where everything is described, twice as often."""
    most = len(values) if random.random() < 0.5 else min(len(values), 4096)
    start = int(random.integers(0, max(1, most)))
    return start, min(len(values), start + int(2 ** random.integers(0, 9)))


def _flipped(values: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    start, _ = _place(values, random)
    changed = values.copy()
    changed[start : start + 1] ^= np.uint8(1 << int(random.integers(8)))
    return changed


def _overwritten(values: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    start, stop = _place(values, random)
    changed = values.copy()
    filled = random.choice([0, 255, 127, 32, 48])
    changed[start:stop] = filled if random.random() < 0.5 else random.integers(0, 256, stop - start, dtype=np.uint8)
    return changed


def _cut(values: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    start, stop = _place(values, random)
    return np.delete(values, slice(start, stop))


def _doubled(values: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    start, stop = _place(values, random)
    return np.insert(values, start, values[start:stop])


def _inserted(values: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    start, stop = _place(values, random)
    return np.insert(values, start, random.integers(0, 256, stop - start, dtype=np.uint8))


def _ended(values: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    return values[: int(random.integers(0, len(values) + 1))]


_WAYS = (_flipped, _flipped, _overwritten, _cut, _doubled, _inserted, _ended)
