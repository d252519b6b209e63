"""Draws docs/adversarial-loss.svg: the generator's two adversarial losses over D.

    python docs/plot_adversarial_loss.py

The left panel shows -log D (non-saturating, the loss used in training) and log(1 - D)
(saturating, the generator's part of eq. 2). The right panel shows their gradients with
respect to D's logit x, where D = sigmoid(x). srgan_jax.training.losses computes both.
"""

from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from srgan_jax.training import losses

WIDTH, HEIGHT, GAP = 340, 260, 70  # size of one panel's axes, and the gap around them
FORMS = {
    "non_saturating": ("-log D", "#c0392b"),
    "saturating": ("log(1 - D)", "#2c5fa8"),
}
D = np.linspace(0.002, 0.998, 400)


def main() -> None:
    logits = jnp.log(D / (1 - D))
    panels = [
        ("loss", (-6.5, 6.5), lambda loss: jax.vmap(loss)(logits)),
        ("gradient with respect to D's logit", (-1.0, 0.2), gradients_at(logits)),
    ]
    body = "".join(
        panel(GAP + i * (WIDTH + GAP), title, limits, values)
        for i, (title, limits, values) in enumerate(panels)
    )
    size = f'width="{2 * WIDTH + 3 * GAP}" height="{HEIGHT + 2 * GAP}"'
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} '
        'font-family="sans-serif" font-size="14">'
        f'<rect width="100%" height="100%" fill="white"/>{body}</svg>\n'
    )
    Path(__file__).with_name("adversarial-loss.svg").write_text(svg)


def gradients_at(logits: jax.Array) -> Callable:
    return lambda loss: jax.vmap(jax.grad(loss))(logits)


def panel(left: int, title: str, limits: tuple[float, float], values: Callable) -> str:
    """Draws the axes and both curves; `values` maps a loss of a logit to its curve."""
    low, high = limits

    def place(x: float, y: float) -> str:
        down = (high - np.clip(y, low, high)) / (high - low) * HEIGHT
        return f"{left + x * WIDTH:.1f},{GAP + down:.1f}"

    def text(at: str, words: str, **attributes: str) -> str:
        x, y = at.split(",")
        style = "".join(f' {k.replace("_", "-")}="{v}"' for k, v in attributes.items())
        return f'<text x="{x}" y="{y}"{style}>{words}</text>'

    parts = [
        f'<rect x="{left}" y="{GAP}" width="{WIDTH}" height="{HEIGHT}" fill="none" '
        'stroke="#888"/>',
        f'<polyline points="{place(0, 0)} {place(1, 0)}" stroke="#bbb"/>',
        text(f"{left + WIDTH / 2},{GAP - 20}", title, text_anchor="middle"),
        text(
            f"{left + WIDTH / 2},{GAP + HEIGHT + 40}",
            "D(G(z)): 0 means rejected, 1 taken for a photograph",
            text_anchor="middle",
        ),
    ]
    for x in (0.0, 0.5, 1.0):
        at = f"{left + x * WIDTH},{GAP + HEIGHT + 20}"
        parts.append(text(at, f"{x:g}", text_anchor="middle"))
    for y in (low, 0, high):
        at = f"{left - 8},{place(0, y).split(',')[1]}"
        parts.append(text(at, f"{y:g}", text_anchor="end"))
    for i, (form, (label, colour)) in enumerate(FORMS.items()):
        curve = values(lambda x, form=form: losses.adversarial_loss(x[None], form))
        points = " ".join(map(place, D, np.asarray(curve)))
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" '
            'stroke-width="2.5"/>'
        )
        at = f"{left + WIDTH - 90},{GAP + 25 + 20 * i}"
        parts.append(text(at, label, fill=colour))
    return "".join(parts)


if __name__ == "__main__":
    main()
