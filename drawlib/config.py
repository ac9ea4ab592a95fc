"""Frozen dataclasses that describe models and trainings: presets, JSON, checks."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Real
from types import UnionType
from typing import Any, ClassVar, TypeVar, get_args, get_origin, get_type_hints

__all__ = ["Config", "at_least", "of_kind", "one_of", "plain", "whole_number"]

# Not `Self`: the tests check annotations at run time, method by method.
C = TypeVar("C", bound="Config")


@dataclass(frozen=True)
class Config:
    """Base of every configuration: immutable, comparable, and equal to its JSON.

    A subclass is a frozen dataclass; it lists its named presets in ``PRESETS``
    and refuses impossible values in ``check``. Fields become plain Python values of
    their types, as ``plain`` has it: a checkpoint and a log hold nothing else.

    Example:
        >>> @dataclass(frozen=True)
        ... class Toy(Config):
        ...     size: tuple[int, ...] = (3,)
        ...     PRESETS = {"big": {"size": (30, 30)}}
        >>> Toy.preset("big")
        Toy(size=(30, 30))
        >>> Toy.from_dict(Toy.preset("big").to_dict()) == Toy.preset("big")
        True
    """

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {}
    # Fields that files written before them lack; what they had then is the default.
    LATER: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        names = [field.name for field in dataclasses.fields(self)]
        given = {name: getattr(self, name) for name in names}
        for name, value in self.plain_fields(given).items():
            object.__setattr__(self, name, value)
        self.check()
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value != value:
                where = f"{type(self).__name__}.{field.name}"
                raise ValueError(refusal(where, value, "a number"))

    def check(self) -> None:
        """Raise ``ValueError`` where a value is out of range."""

    @classmethod
    def preset(cls: type[C], name: str, **changes: Any) -> C:
        """The configuration called ``name``, with ``changes`` on top.

        Raises:
            ValueError: for a name that ``PRESETS`` does not hold.
        """
        if name not in cls.PRESETS:
            raise ValueError(
                f"{cls.__name__} has no preset {name!r}; "
                f"there are: {', '.join(sorted(cls.PRESETS)) or 'none'}"
            )
        return cls.from_dict({**cls.PRESETS[name], **changes})

    @classmethod
    def from_dict(cls: type[C], values: dict[str, Any]) -> C:
        """Build from a plain dictionary.

        Raises:
            ValueError: for a key that is no field.
        """
        known = [field.name for field in dataclasses.fields(cls) if field.init]
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise ValueError(
                f"{cls.__name__} has no field {', '.join(unknown)}; "
                f"it has: {', '.join(known)}"
            )
        return cls(**cls.plain_fields(values))

    @classmethod
    def given(cls: type[C], config: Any) -> C:
        """What somebody gave as this config; the usual one, where nothing was given.

        Raises:
            TypeError: for another kind: a dictionary, a preset's name, or the class,
                whose attributes would pass for the fields.
        """
        if config is None:
            return cls()
        names = " or ".join(f"preset({name!r})" for name in list(cls.PRESETS)[:1])
        such = f", such as {cls.__name__}.{names}" if names else ""
        return of_kind("config", config, cls, f"a {cls.__name__}{such}")

    @classmethod
    def from_whole(cls: type[C], values: Any) -> C:
        """Build from a dictionary that leaves nothing to a default, as files do.

        Weights were trained with every field's value then: a default in the place of a
        lost one could be another.

        Raises:
            ValueError: for anything but a dictionary, a field that is missing, or a key
                that is no field.

        Example:
            >>> from drawlib.vae import VAEConfig
            >>> VAEConfig.from_whole({"z": 3})
            Traceback (most recent call last):
            ValueError: VAEConfig lacks image_shape, encoder, decoder, ...
        """
        if not isinstance(values, dict):
            raise ValueError(
                refusal(cls.__name__, values, "a dictionary of its fields")
            )
        known = [field.name for field in dataclasses.fields(cls) if field.init]
        if lost := [k for k in known if k not in values and k not in cls.LATER]:
            raise ValueError(f"{cls.__name__} lacks {', '.join(lost)}")
        return cls.from_dict(values)

    @classmethod
    def plain_fields(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Values of fields as their types have them; errors as ``plain``."""
        kinds = field_types(cls)  # type: ignore[arg-type]
        found = {}
        for name, value in values.items():
            where, kind = f"{cls.__name__}.{name}", kinds[name]
            try:
                found[name] = plain(where, value, kind)
            except ValueError:
                if kind is not str:
                    raise
                raise ValueError(refusal(where, value, cls.words(name))) from None
        return found

    @classmethod
    def words(cls, name: str) -> str:
        """Which words a field for text takes, as ``check`` tells who gives another.

        Example:
            >>> from drawlib.vae import VAEConfig
            >>> VAEConfig.words("variance")
            'exp, softplus'
        """
        told = ""
        try:
            cls(**{name: "?"})
        except (TypeError, ValueError) as error:
            told = str(error)
        return told.partition("allowed: ")[2] or "text"

    def to_dict(self) -> dict[str, Any]:
        """A dictionary that JSON can hold (tuples become lists)."""
        return json.loads(json.dumps(dataclasses.asdict(self)))


@functools.cache
def field_types(cls: type) -> dict[str, Any]:
    """The types of a config's fields; Python evaluates them anew at each asking."""
    return get_type_hints(cls)


PLAIN = {int: "a whole number", float: "a number", bool: "True or False", str: "text"}


def plain(where: str, value: Any, kind: Any) -> Any:
    """A value as plain Python has it, for a field of the type ``kind``.

    Scalars of NumPy and tensors without axes become numbers, lists and arrays become
    tuples, and whole numbers become floats where a float is asked for. Nothing else is
    changed: no float for a whole number, and no text or truth value for a number.

    Raises:
        ValueError: for a value of another kind.

    Example:
        >>> import numpy as np
        >>> plain("lr", np.float32(0.5), float)
        0.5
        >>> plain("z", np.array([3, 2]), tuple[int, ...])
        (3, 2)
        >>> plain("TrainConfig.epochs", 1.5, int)
        Traceback (most recent call last):
        ValueError: TrainConfig.epochs is 1.5; allowed: a whole number
    """
    if get_origin(kind) is UnionType:
        # Text is one choice, and what is no text is the other.
        text = isinstance(value, str)
        kind = next(k for k in get_args(kind) if (k is str) == text)
    if get_origin(kind) is tuple:
        inner = get_args(kind)
        listed = isinstance(value, Iterable) and not isinstance(value, str | bytes)
        items = list(value) if listed and getattr(value, "ndim", 1) != 0 else [value]
        kinds = inner[:1] * len(items) if inner[-1] is Ellipsis else inner
        if not listed or len(items) != len(kinds):
            count = "" if inner[-1] is Ellipsis else f"{len(inner)} "
            raise ValueError(refusal(where, value, f"a tuple of {count}numbers"))
        pairs = zip(items, kinds, strict=True)
        return tuple(plain(where, item, its) for item, its in pairs)
    found = value.item() if getattr(value, "ndim", None) == 0 else value
    if kind not in PLAIN:
        return found
    kinds = (Real,) if kind is float else (kind,)
    if not isinstance(found, kinds) or (kind is not bool and isinstance(found, bool)):
        raise ValueError(refusal(where, value, PLAIN[kind]))
    return kind(found)


def of_kind(where: str, value: Any, kind: type, allowed: str) -> Any:
    """The value, which is of this kind.

    Raises:
        TypeError: for another one, with what is allowed.

    Example:
        >>> of_kind("trace", int, dict, "a dictionary")
        Traceback (most recent call last):
        TypeError: trace is the class int; allowed: a dictionary
    """
    if isinstance(value, kind):
        return value
    name = type(value).__name__
    given = f"the class {value.__name__}" if isinstance(value, type) else f"a {name}"
    raise TypeError(f"{where} is {given}; allowed: {allowed}")


def refusal(where: str, value: Any, allowed: str) -> str:
    """What was given and what is allowed, in one line."""
    given = " ".join(repr(value).split())
    return f"{where} is {given:.60}; allowed: {allowed}"


def whole_number(
    where: str, value: Any, lowest: int = 0, below: int | None = None
) -> int:
    """A plain whole number from ``lowest`` on, and ``below`` a limit.

    Raises:
        ValueError: for anything else.

    Example:
        >>> whole_number("seed", 2**64, below=2**63)
        Traceback (most recent call last):
        ValueError: seed is 18446744073709551616; allowed: 0 to 2**63 - 1
    """
    found = plain(where, value, int)
    if found < lowest or (below is not None and found >= below):
        most = "" if below is None else f" to 2**{below.bit_length() - 1} - 1"
        raise ValueError(f"{where} is {found}; allowed: {lowest}{most or ' or more'}")
    return found


def one_of(config: Config, name: str, allowed: tuple[str, ...]) -> None:
    """Refuse a field whose value is not among ``allowed``.

    Example:
        >>> from drawlib.vae import VAEConfig
        >>> VAEConfig(variance="log")
        Traceback (most recent call last):
        ValueError: VAEConfig.variance is 'log'; allowed: exp, softplus
    """
    value = getattr(config, name)
    if value not in allowed:
        where = f"{type(config).__name__}.{name}"
        raise ValueError(refusal(where, value, ", ".join(allowed)))


def at_least(config: Config, lowest: float, *names: str) -> None:
    """Refuse number fields (or tuples of numbers) below ``lowest``.

    Example:
        >>> from drawlib.vae import VAEConfig
        >>> VAEConfig(z=0)
        Traceback (most recent call last):
        ValueError: VAEConfig.z is 0; it must be at least 1
    """
    for name in names:
        value = getattr(config, name)
        for number in value if isinstance(value, tuple) else (value,):
            if not number >= lowest:
                raise ValueError(
                    f"{type(config).__name__}.{name} is {value!r}; "
                    f"it must be at least {lowest:g}"
                )
