//! Which keys type a character on a US keyboard.

use crate::input::Key::{self, *};

/// The keys to press, in order, and to release in reverse; `None` if a US keyboard cannot type it.
pub fn type_text(character: char) -> Option<&'static [Key]> {
    macro_rules! plain {
        ($($key:ident)*) => { &[$(&[$key]),*] };
    }
    macro_rules! shifted {
        ($($key:ident)*) => { &[$(&[LeftShift, $key]),*] };
    }
    const PLAIN: &[&[Key]] = plain!(
        A B C D E F G H I J K L M N O P Q R S T U V W X Y Z
        Digit0 Digit1 Digit2 Digit3 Digit4 Digit5 Digit6 Digit7 Digit8 Digit9
        Grave Minus Equal LeftBracket RightBracket Backslash Semicolon Apostrophe Comma Period Slash
        Space Tab Enter Enter Backspace Escape
    );
    const SHIFTED: &[&[Key]] = shifted!(
        A B C D E F G H I J K L M N O P Q R S T U V W X Y Z
        Digit0 Digit1 Digit2 Digit3 Digit4 Digit5 Digit6 Digit7 Digit8 Digit9
        Grave Minus Equal LeftBracket RightBracket Backslash Semicolon Apostrophe Comma Period Slash
    );
    let place = |text: &str| text.chars().position(|there| there == character);
    if let Some(n) = place("abcdefghijklmnopqrstuvwxyz0123456789`-=[]\\;',./ \t\n\r\u{8}\u{1B}") {
        return Some(PLAIN[n]);
    }
    place("ABCDEFGHIJKLMNOPQRSTUVWXYZ)!@#$%^&*(~_+{}|:\"<>?").map(|n| SHIFTED[n])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_printable_ascii_character_can_be_typed() {
        for character in (0x20..0x7Fu8).map(char::from) {
            assert!(type_text(character).is_some(), "{character:?}");
        }
        assert_eq!(type_text('é'), None);
    }

    #[test]
    fn the_layout_is_american() {
        assert_eq!(type_text('q'), Some(&[Q][..]));
        assert_eq!(type_text('Q'), Some(&[LeftShift, Q][..]));
        assert_eq!(type_text('@'), Some(&[LeftShift, Digit2][..]));
        assert_eq!(type_text('"'), Some(&[LeftShift, Apostrophe][..]));
        assert_eq!(type_text('\n'), Some(&[Enter][..]));
        assert_eq!(type_text('?'), Some(&[LeftShift, Slash][..]));
        assert_eq!(type_text('\u{1B}'), Some(&[Escape][..]));
    }
}
