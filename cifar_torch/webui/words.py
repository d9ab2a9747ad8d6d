"""What the web app says, in English and Vietnamese.

Fixed labels are `label("key")`: Gradio translates them in the browser, at once and without losing
what is on the page. What Python composes for one visitor comes from `Words(language)`.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import gradio as gr

LANGUAGES = {"en": "English", "vi": "Tiếng Việt"}
TEXTS: dict[str, dict[str, str]] = {
    language: json.loads(Path(__file__).with_name(f"texts_{language}.json").read_text("utf-8"))
    for language in LANGUAGES
}
label = gr.I18n(**TEXTS)


@dataclass(frozen=True)
class Words:
    """The texts of one language; call it with a key and the values of the text's braces."""

    language: str = "en"

    def __post_init__(self) -> None:
        if self.language not in LANGUAGES:
            object.__setattr__(self, "language", "en")

    def __call__(self, key: str, **values: object) -> str:
        return TEXTS[self.language][key].format(**values)

    def class_name(self, name: str) -> str:
        """The name of a class; the ten of CIFAR-10 are translated, people's own stay."""
        return TEXTS[self.language].get(f"class.{name}", name)

    def a(self, name: str) -> str:
        """The class as it stands in a sentence: «a cat», «một con mèo»."""
        return TEXTS[self.language].get(f"a.{name}", name)

    def count(self, number: int) -> str:
        """The number of classes: «ten», and in digits where it is another."""
        return TEXTS[self.language].get(f"count.{number}", str(number))

    def number(self, value: float, digits: int = 0) -> str:
        """1,563.2 in English, 1.563,2 in Vietnamese; a true minus, and none before a zero."""
        text = f"{round(value, digits) + 0.0:,.{digits}f}".replace("-", "\N{MINUS SIGN}")
        return text.translate(str.maketrans(",.", ".,")) if self.language == "vi" else text

    def percent(self, share: float, digits: int = 1) -> str:
        return f"{self.number(100 * share, digits)}%"

    def confidence(self, share: float) -> str:
        """As a percentage, but never as certainty."""
        return (
            f">\N{NO-BREAK SPACE}{self.percent(0.999)}" if share > 0.9995 else self.percent(share)
        )

    def section(self, prefix: str) -> dict[str, str]:
        """All texts whose key starts with `prefix` and a dot, by the rest of the key."""
        texts = TEXTS[self.language].items()
        return {k[len(prefix) + 1 :]: v for k, v in texts if k.startswith(f"{prefix}.")}
