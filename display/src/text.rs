//! The text of a text screen: code page 437 as Unicode.

use crate::picture::Picture;

/// Code page 437 as the character generator draws it: the control codes have glyphs too.
pub const CODE_PAGE_437: [char; 256] = {
    const LOW: [char; 32] = [
        ' ', '☺', '☻', '♥', '♦', '♣', '♠', '•', '◘', '○', '◙', '♂', '♀', '♪', '♫', '☼', '►', '◄', '↕', '‼',
        '¶', '§', '▬', '↨', '↑', '↓', '→', '←', '∟', '↔', '▲', '▼',
    ];
    const HIGH: [char; 129] = [
        '⌂', 'Ç', 'ü', 'é', 'â', 'ä', 'à', 'å', 'ç', 'ê', 'ë', 'è', 'ï', 'î', 'ì', 'Ä', 'Å', 'É', 'æ', 'Æ',
        'ô', 'ö', 'ò', 'û', 'ù', 'ÿ', 'Ö', 'Ü', '¢', '£', '¥', '₧', 'ƒ', 'á', 'í', 'ó', 'ú', 'ñ', 'Ñ', 'ª',
        'º', '¿', '⌐', '¬', '½', '¼', '¡', '«', '»', '░', '▒', '▓', '│', '┤', '╡', '╢', '╖', '╕', '╣', '║',
        '╗', '╝', '╜', '╛', '┐', '└', '┴', '┬', '├', '─', '┼', '╞', '╟', '╚', '╔', '╩', '╦', '╠', '═', '╬',
        '╧', '╨', '╤', '╥', '╙', '╘', '╒', '╓', '╫', '╪', '┘', '┌', '█', '▄', '▌', '▐', '▀', 'α', 'ß', 'Γ',
        'π', 'Σ', 'σ', 'µ', 'τ', 'Φ', 'Θ', 'Ω', 'δ', '∞', 'φ', 'ε', '∩', '≡', '±', '≥', '≤', '⌠', '⌡', '÷',
        '≈', '°', '∙', '·', '√', 'ⁿ', '²', '■', '\u{A0}',
    ];
    let mut table = [' '; 256];
    let mut code = 0;
    while code < 256 {
        table[code] = match code {
            0..32 => LOW[code],
            32..127 => code as u8 as char,
            _ => HIGH[code - 127],
        };
        code += 1;
    }
    table
};

/// The characters on a text screen, rows trimmed at the right and joined by newlines; `None` when the
/// picture is not text.
pub fn screen_text(picture: &Picture) -> Option<String> {
    let Picture::Text(text) = picture else { return None };
    let rows = text.cells.chunks(text.columns.max(1) as usize).take(text.rows as usize).map(|row| {
        let row: String = row.iter().map(|cell| CODE_PAGE_437[usize::from(cell & 0xFF)]).collect();
        row.trim_end().to_owned()
    });
    Some(rows.collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scanout::tests::text_picture;

    #[test]
    fn code_page_437_has_its_landmarks() {
        for (code, character) in [
            (0x01, '☺'),
            (0x1F, '▼'),
            (0x20, ' '),
            (0x7E, '~'),
            (0x7F, '⌂'),
            (0x80, 'Ç'),
            (0x9B, '¢'),
            (0xB3, '│'),
            (0xC4, '─'),
            (0xDB, '█'),
            (0xE1, 'ß'),
            (0xF8, '°'),
            (0xFE, '■'),
        ] {
            assert_eq!(CODE_PAGE_437[code], character, "{code:#x}");
        }
    }

    #[test]
    fn rows_are_trimmed_and_joined() {
        let text = text_picture(5, 3, &[b"Hi  \xDB", b"\x00A\x00  ", b"     "]);
        assert_eq!(screen_text(&Picture::Text(text)).unwrap(), "Hi  █\n A\n");
        assert_eq!(screen_text(&Picture::Blank), None);
    }
}
