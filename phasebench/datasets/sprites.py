"""The emoji that scenes are composed of: one sheet of sprites, each with one word.

The sheet was cut once from Noto Color Emoji by ``python -m phasebench.datasets.sprites FONT`` and is
committed, so that drawing a scene needs no font and gives the same pixels everywhere.
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

ASSETS = Path(__file__).parent / "assets"
SHEET = ASSETS / "sprites.png"
CELL = 64
"""Width and height of one sprite in the sheet, in pixels."""
COLUMNS = 10
FONT_SIZE = 109
"""The only size at which Noto Color Emoji has bitmaps."""

_LIST = """
cat:🐈 dog:🐕 horse:🐎 cow:🐄 pig:🐖 sheep:🐑 rabbit:🐇 mouse:🐁 elephant:🐘 lion:🦁
bear:🐻 monkey:🐒 snake:🐍 turtle:🐢 frog:🐸 fish:🐟 whale:🐳 octopus:🐙 crab:🦀 bird:🐦
duck:🦆 owl:🦉 penguin:🐧 butterfly:🦋 bee:🐝 spider:🕷 snail:🐌 fox:🦊 apple:🍎 banana:🍌
lemon:🍋 grape:🍇 cherry:🍒 strawberry:🍓 carrot:🥕 mushroom:🍄 bread:🍞 cheese:🧀 egg:🥚 pizza:🍕
cake:🎂 cookie:🍪 coffee:☕ bottle:🍾 flower:🌻 rose:🌹 tree:🌳 cactus:🌵 leaf:🍁 moon:🌙
star:⭐ fire:🔥 rainbow:🌈 umbrella:☂ car:🚗 bus:🚌 truck:🚚 train:🚂 bicycle:🚲 plane:✈
boat:⛵ rocket:🚀 house:🏠 castle:🏰 tent:⛺ clock:⏰ phone:📱 computer:💻 camera:📷 book:📖
pencil:✏ key:🔑 hammer:🔨 chair:🪑 guitar:🎸 drum:🥁 crown:👑 shirt:👕 heart:❤ robot:🤖
"""

EMOJI: dict[str, str] = dict(entry.split(":") for entry in _LIST.split())
"""Word -> emoji. Every word is one token of SmolLM2's vocabulary (with a space before it)."""

NOUNS: tuple[str, ...] = tuple(EMOJI)


@cache
def sprites() -> dict[str, Image.Image]:
    """The sprites by noun: RGBA, cropped to the painted area, the longer side ``CELL`` pixels."""
    with Image.open(SHEET) as sheet:
        cells = sheet.convert("RGBA")
    cropped = {}
    for index, noun in enumerate(NOUNS):
        left, top = CELL * (index % COLUMNS), CELL * (index // COLUMNS)
        cell = cells.crop((left, top, left + CELL, top + CELL))
        cropped[noun] = cell.crop(cell.getbbox())
    return cropped


def cut_sheet(font_path: Path) -> Image.Image:
    """Draw every noun's emoji with the font file at ``font_path`` into one sheet."""
    font = ImageFont.truetype(str(font_path), size=FONT_SIZE)
    sheet = Image.new("RGBA", (CELL * COLUMNS, CELL * -(-len(NOUNS) // COLUMNS)))
    for index, emoji in enumerate(EMOJI.values()):
        glyph = Image.new("RGBA", (2 * FONT_SIZE, 2 * FONT_SIZE))
        ImageDraw.Draw(glyph).text((10, 10), emoji, font=font, embedded_color=True)
        glyph = glyph.crop(glyph.getbbox())
        glyph.thumbnail((CELL, CELL), Image.Resampling.LANCZOS)
        sheet.paste(glyph, (CELL * (index % COLUMNS), CELL * (index // COLUMNS)))
    return sheet


if __name__ == "__main__":
    cut_sheet(Path(sys.argv[1])).save(SHEET, optimize=True)
