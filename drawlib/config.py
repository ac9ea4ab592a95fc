"""Frozen dataclasses that describe models and trainings: presets, JSON, checks."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

__all__ = ["Config", "one_of", "at_least"]

# Not `Self`: the tests check annotations at run time, method by method.
C = TypeVar("C", bound="Config")


@dataclass(frozen=True)
class Config:
    """Base of every configuration: immutable, comparable, and equal to its JSON.

    A subclass is a frozen dataclass; it lists its named presets in ``PRESETS``
    and refuses impossible values in ``check``.

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

    def __post_init__(self) -> None:
        # JSON knows lists only: a config read back must equal the one written.
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, list):
                object.__setattr__(self, field.name, tuple(value))
        self.check()

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
        # JSON knows lists only: a config read back must equal the one written.
        return cls(
            **{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        )

    def to_dict(self) -> dict[str, Any]:
        """A dictionary that JSON can hold (tuples become lists)."""
        return json.loads(json.dumps(dataclasses.asdict(self)))


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
        raise ValueError(
            f"{type(config).__name__}.{name} is {value!r}; allowed: "
            + ", ".join(str(a) for a in allowed)
        )


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
