//! The script language of `--script`: one command a line, read whole before anything starts.
//!
//! ```text
//! wait-screen TEXT [SECONDS]   wait-serial TEXT [SECONDS]   expect-screen TEXT
//! type TEXT   key ctrl-alt-delete   serial TEXT   sleep MS
//! mouse DX DY   click left|right|middle   screenshot PATH
//! ```
//! Blank lines and lines that begin with `#` are skipped. TEXT goes to the end of the line; between
//! double quotes it may hold anything, and the seconds stand behind it. In `type`, `serial` and
//! quoted texts `\n`, `\r`, `\t`, `\e`, `\\` and `\"` mean what they do in C.

use std::path::PathBuf;
use std::time::Duration;

use hardware::input::Key;

/// How long a wait lasts when the line does not say.
pub const DEFAULT_WAIT: Duration = Duration::from_secs(60);

/// One command.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Wait until the text stands on the screen.
    WaitScreen(String, Duration),
    /// Wait until the text has come from the serial port.
    WaitSerial(String, Duration),
    /// Fail unless the text stands on the screen now.
    ExpectScreen(String),
    /// Type on the keyboard.
    Type(String),
    /// Press these keys together, then let go.
    Key(Vec<Key>),
    /// Send to the serial port.
    Serial(String),
    /// Do nothing.
    Sleep(Duration),
    /// Move the mouse.
    Mouse(i32, i32),
    /// Press and release a mouse button (bit of the button mask).
    Click(u8),
    /// Write the screen as a PNG.
    Screenshot(PathBuf),
}

/// A command and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Line number, from 1.
    pub number: usize,
    /// The command.
    pub step: Step,
}

/// Reads a script; the error names the line.
pub fn parse(text: &str) -> Result<Vec<Line>, String> {
    let mut lines = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let step = step(line).map_err(|reason| format!("line {number}: {reason}"))?;
        lines.push(Line { number, step });
    }
    Ok(lines)
}

fn step(line: &str) -> Result<Step, String> {
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let rest = rest.trim();
    match word {
        "wait-screen" => text_and_seconds(word, rest).map(|(text, wait)| Step::WaitScreen(text, wait)),
        "wait-serial" => text_and_seconds(word, rest).map(|(text, wait)| Step::WaitSerial(text, wait)),
        "expect-screen" => match text_and_rest(word, rest)? {
            (text, "") => Ok(Step::ExpectScreen(text)),
            (_, extra) => Err(format!("`{extra}` stands behind the text")),
        },
        "type" => whole_text(word, rest).map(Step::Type),
        "serial" => whole_text(word, rest).map(Step::Serial),
        "key" => keys(rest).map(Step::Key),
        "sleep" => milliseconds(rest).map(Step::Sleep),
        "mouse" => movement(rest),
        "click" => button(rest).map(Step::Click),
        "screenshot" if rest.is_empty() => Err("screenshot needs a path".to_owned()),
        "screenshot" => Ok(Step::Screenshot(rest.into())),
        other => Err(format!(
            "`{other}` is no command; there are wait-screen, wait-serial, expect-screen, type, key, serial, \
             sleep, mouse, click and screenshot"
        )),
    }
}

/// `TEXT [SECONDS]`: unquoted, the last of several words is the seconds when it is a number.
fn text_and_seconds(word: &str, rest: &str) -> Result<(String, Duration), String> {
    if rest.starts_with('"') {
        let (text, rest) = text_and_rest(word, rest)?;
        let wait = if rest.is_empty() { DEFAULT_WAIT } else { seconds(rest)? };
        return Ok((text, wait));
    }
    if let Some((text, last)) = rest.rsplit_once(char::is_whitespace)
        && last.parse::<f64>().is_ok()
    {
        return Ok((text.trim_end().to_owned(), seconds(last)?));
    }
    Ok((text_and_rest(word, rest)?.0, DEFAULT_WAIT))
}

/// A text, quoted or to the end of the line, and what stands behind it.
fn text_and_rest<'a>(word: &str, rest: &'a str) -> Result<(String, &'a str), String> {
    let Some(quoted) = rest.strip_prefix('"') else {
        return if rest.is_empty() { Err(format!("{word} needs a text")) } else { Ok((rest.to_owned(), "")) };
    };
    let mut escaped = false;
    for (at, c) in quoted.char_indices() {
        match c {
            '"' if !escaped && at == 0 => return Err(format!("{word} needs a text")),
            '"' if !escaped => return Ok((unescape(&quoted[..at])?, quoted[at + 1..].trim())),
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    Err("the closing quote is missing".to_owned())
}

/// The whole rest of the line, quoted or not, with escapes.
fn whole_text(word: &str, rest: &str) -> Result<String, String> {
    if rest.len() >= 2 && rest.starts_with('"') && rest.ends_with('"') {
        return match text_and_rest(word, rest)? {
            (text, "") => Ok(text),
            (_, extra) => Err(format!("`{extra}` stands behind the text")),
        };
    }
    if rest.is_empty() { Err(format!("{word} needs a text")) } else { unescape(rest) }
}

/// Text with its escapes (\\n, \\t, ...) replaced.
pub fn unescape(text: &str) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        out.push(match chars.next() {
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('e') => '\x1B',
            Some('\\') => '\\',
            Some('"') => '"',
            Some(other) => return Err(format!("`\\{other}` means nothing; write `\\\\` for a backslash")),
            None => return Err("a backslash ends the line; write `\\\\` for one".to_owned()),
        });
    }
    Ok(out)
}

/// Keys by their names, joined by hyphens.
pub fn keys(text: &str) -> Result<Vec<Key>, String> {
    if text.is_empty() {
        return Err("key needs the names of keys, for example ctrl-alt-delete".to_owned());
    }
    // A name may itself hold a hyphen or be one.
    if let Some(key) = Key::from_name(text) {
        return Ok(vec![key]);
    }
    text.split('-')
        .map(|name| Key::from_name(name).ok_or_else(|| format!("there is no key `{name}`")))
        .collect()
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= 1e6 => Ok(Duration::from_secs_f64(seconds)),
        _ => Err(format!("`{text}` is no number of seconds above 0")),
    }
}

fn milliseconds(text: &str) -> Result<Duration, String> {
    match text.parse::<u32>() {
        Ok(ms) => Ok(Duration::from_millis(ms.into())),
        Err(_) => Err(format!("sleep needs a number of milliseconds, not `{text}`")),
    }
}

fn movement(text: &str) -> Result<Step, String> {
    let numbers: Vec<i32> = text.split_whitespace().map_while(|word| word.parse().ok()).collect();
    match numbers[..] {
        [dx, dy] if text.split_whitespace().count() == 2 && dx.abs().max(dy.abs()) <= 100_000 => {
            Ok(Step::Mouse(dx, dy))
        }
        _ => Err("mouse needs two whole numbers: right and down".to_owned()),
    }
}

fn button(text: &str) -> Result<u8, String> {
    match text {
        "left" => Ok(1),
        "right" => Ok(2),
        "middle" => Ok(4),
        other => Err(format!("click needs left, right or middle, not `{other}`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(line: &str) -> Result<Step, String> {
        parse(line).map(|lines| lines.into_iter().next().expect("one line").step)
    }

    #[test]
    fn every_command_is_understood() {
        assert_eq!(
            one("wait-screen GNU GRUB 5").unwrap(),
            Step::WaitScreen("GNU GRUB".into(), Duration::from_secs(5))
        );
        assert_eq!(one("wait-screen GNU GRUB").unwrap(), Step::WaitScreen("GNU GRUB".into(), DEFAULT_WAIT));
        assert_eq!(
            one("wait-serial \"a 5\" 0.5").unwrap(),
            Step::WaitSerial("a 5".into(), Duration::from_millis(500))
        );
        assert_eq!(
            one("wait-serial \"say \\\"hi\\\"\"").unwrap(),
            Step::WaitSerial("say \"hi\"".into(), DEFAULT_WAIT)
        );
        assert_eq!(one("wait-screen 42").unwrap(), Step::WaitScreen("42".into(), DEFAULT_WAIT));
        assert_eq!(one("expect-screen memory 64 M").unwrap(), Step::ExpectScreen("memory 64 M".into()));
        assert_eq!(one("type ls -l\\n").unwrap(), Step::Type("ls -l\n".into()));
        assert_eq!(one("serial \"x\\r\"").unwrap(), Step::Serial("x\r".into()));
        assert_eq!(one("sleep 250").unwrap(), Step::Sleep(Duration::from_millis(250)));
        assert_eq!(one("mouse -3 40").unwrap(), Step::Mouse(-3, 40));
        assert_eq!(one("click right").unwrap(), Step::Click(2));
        assert_eq!(one("screenshot a b.png").unwrap(), Step::Screenshot("a b.png".into()));
        assert!(matches!(one("key ctrl-alt-delete").unwrap(), Step::Key(keys) if keys.len() == 3));
    }

    #[test]
    fn errors_name_their_line() {
        for (line, reason) in [
            ("shout hello", "`shout`"),
            ("wait-screen", "needs a text"),
            ("wait-screen \"open", "quote"),
            ("wait-screen GRUB 0", "seconds"),
            ("type a\\q", "\\q"),
            ("sleep long", "milliseconds"),
            ("mouse 1", "two whole numbers"),
            ("mouse 1 2 3", "two whole numbers"),
            ("click both", "left, right or middle"),
            ("screenshot", "path"),
            ("key ctrl-anykey", "anykey"),
        ] {
            let error = parse(&format!("# a comment\n\n{line}\n")).unwrap_err();
            assert!(error.starts_with("line 3: ") && error.contains(reason), "{error}");
        }
    }

    #[test]
    fn comments_and_blank_lines_are_skipped() {
        assert_eq!(parse("\n  # nothing\n\n").unwrap(), []);
    }
}
