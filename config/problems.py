"""What is wrong in a fleet file, as lines that name file, line, key, fault and remedy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from config.lines import Lines, Path


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to put right; ``line`` counts from 1, 0 where it is about the whole file."""

    file: str
    line: int
    where: Path
    text: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        key = spelled(self.where)
        return f"{place}: {key}: {self.text}" if key else f"{place}: {self.text}"


class FleetError(ValueError):
    """The fleet file cannot be used; the text has one line for each problem, in the file's order."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


def spelled(where: Path) -> str:
    """``mirrors[0].targets[1].region``."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in where)
    return text.removeprefix(".")


def explain(error: ValidationError, model: type[BaseModel], file: str, lines: Lines) -> tuple[Problem, ...]:
    """Pydantic's findings in our words, in the order of the file; none repeats what may be a secret."""
    problems = [
        Problem(file, lines.of(where), where, _text(details, model))
        for details in error.errors(include_url=False)
        for where in [_written(details, lines)]
    ]
    return tuple(sorted(problems, key=lambda problem: problem.line))


def _written(details: ErrorDetails, lines: Lines) -> Path:
    """The key as the file has it: a target written as plain text has no ``repository`` key."""
    return details["loc"] if details["type"] == "missing" else lines.nearest(details["loc"])


_TEXTS: Mapping[str, str] = {
    "missing": "is missing; add it",
    "string_type": "must be a text",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_parsing_size": "is too large",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "tuple_type": "must be a list; write [one, two] or one '- ' line for each",
    "dict_type": "must be a mapping; write 'key: value' lines below it",
    "model_type": "must be a mapping; write 'key: value' lines below it",
}

_BUILT: Mapping[str, Callable[[dict[str, Any]], str]] = {
    "value_error": lambda context: str(context["error"]),
    "literal_error": lambda context: f"must be {context['expected']}",
    "greater_than": lambda context: f"must be more than {context['gt']}",
    "less_than_equal": lambda context: f"must be at most {context['le']}",
}


def _text(details: ErrorDetails, model: type[BaseModel]) -> str:
    kind = details["type"]
    if kind == "extra_forbidden":
        return _unknown_key(details["loc"], model)
    if details["input"] is None and kind != "missing":
        return "is empty; give it a value, or leave the key out"
    if kind in _BUILT:
        return _BUILT[kind](details.get("ctx", {}))
    return _TEXTS.get(kind, "is not allowed here; see docs/configuration.md")


def _unknown_key(where: Path, model: type[BaseModel]) -> str:
    known = sorted(_model_at(model, where[:-1]).model_fields)
    near = get_close_matches(str(where[-1]), known, n=1)
    remedy = f"did you mean {near[0]!r}?" if near else f"the keys here are: {', '.join(known)}"
    return f"unknown key; {remedy}"


def _model_at(model: type[BaseModel], where: Path) -> type[BaseModel]:
    """The model whose keys stand at ``where``: follow field names, skip positions and hosts."""
    for part in where:
        field = model.model_fields.get(str(part))
        if field is not None:
            model = _model_in(field.annotation) or model
    return model


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (_model_in(argument) for argument in get_args(annotation))
    return next((model for model in found if model is not None), None)
