//! The vocabulary of a model: what each class of the network's output stands for.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use crate::error::{Error, Result};

/// The blank of CTC as `tokens.txt` writes it.
const BLANK: &str = "<b>";
/// A space as `tokens.txt` writes it when it is a token of its own.
const SPACE: &str = "<space>";
/// A space inside a token, as in SentencePiece (Kudo & Richardson 2018).
const SPACE_MARK: char = '▁';

const MAX_TOKENS: usize = 1 << 16;
const MAX_FILE_BYTES: usize = 1 << 22;

/// The tokens of a model, in the order of the network's classes.
///
/// As a file: UTF-8, one token per line, the blank `<b>` first. A token is any text without white space: a character, a
/// word piece, a Chinese character. `▁` in it is a space; a token that is only a space may be written `<space>` too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    tokens: Vec<String>,
    ids: HashMap<String, u32>,
}

impl Tokens {
    /// Reads a `tokens.txt`.
    ///
    /// # Errors
    /// When the file cannot be read, or as [`Tokens::parse`].
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let file = std::fs::File::open(path).map_err(Error::read(path))?;
        let mut bytes = Vec::new();
        file.take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(Error::read(path))?;
        if bytes.len() > MAX_FILE_BYTES {
            return Err(Error::model(path, format!("more than {MAX_FILE_BYTES} bytes; this is no list of tokens")));
        }
        let text = String::from_utf8(bytes)
            .map_err(|error| Error::model(path, format!("not UTF-8 at byte {}", error.utf8_error().valid_up_to())))?;
        Self::parse(path, &text)
    }

    /// Reads the text of a `tokens.txt`; `path` is for the errors.
    ///
    /// # Errors
    /// When the blank is missing, a token is empty, holds white space or control characters or comes twice, there is no
    /// token beside the blank, or there are more than 65,536.
    pub fn parse(path: impl AsRef<Path>, text: &str) -> Result<Self> {
        let problem = |text: String| Error::model(&path, text);
        let mut tokens = Vec::new();
        let mut ids = HashMap::new();
        for (index, line) in text.strip_prefix('\u{feff}').unwrap_or(text).lines().enumerate() {
            let number = index + 1;
            if (index == 0) != (line == BLANK) {
                return Err(problem(format!("line {number}: the blank {BLANK} must be the first line and only that")));
            }
            if line.trim().is_empty() {
                return Err(problem(format!("line {number} is empty; write a space as {SPACE}")));
            }
            if line.contains(|c: char| c.is_whitespace() || c.is_control()) {
                let line = line.escape_debug();
                return Err(problem(format!(
                    "line {number}: white space in \"{line}\"; write a space as {SPACE_MARK}"
                )));
            }
            if index == MAX_TOKENS {
                return Err(problem(format!("more than {MAX_TOKENS} tokens")));
            }
            let token = if line == SPACE { SPACE_MARK.to_string() } else { line.to_string() };
            if let Some(first) = ids.insert(token.clone(), index as u32) {
                return Err(problem(format!("line {number}: {line} is already on line {}", first + 1)));
            }
            tokens.push(token);
        }
        match tokens.len() {
            0 => Err(problem(format!("empty; the first line must be the blank {BLANK}"))),
            1 => Err(problem("no token beside the blank".into())),
            _ => Ok(Self { tokens, ids }),
        }
    }

    /// The text of a `tokens.txt` that [`Tokens::parse`] reads back.
    pub fn to_text(&self) -> String {
        let line =
            |token: &String| if token.chars().eq([SPACE_MARK]) { SPACE } else { token.as_str() }.to_string() + "\n";
        self.tokens.iter().map(line).collect()
    }

    /// The number of tokens, the blank included: the classes of the network's output.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there are no tokens; never so.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// The class of the blank.
    pub fn blank(&self) -> u32 {
        0
    }

    /// The class of `token`, in which a space may be written as such.
    pub fn id(&self, token: &str) -> Option<u32> {
        if token.contains(' ') {
            return self.ids.get(&token.replace(' ', "▁")).copied();
        }
        self.ids.get(token).copied()
    }

    /// The token of class `id`, with its spaces as such; `None` for the blank and for classes that do not exist.
    pub fn piece(&self, id: u32) -> Option<String> {
        if id == self.blank() {
            return None;
        }
        self.tokens.get(id as usize).map(|token| token.replace(SPACE_MARK, " "))
    }

    /// The tokens joined to text: words parted by single spaces, no space at the ends, blanks left out.
    pub fn text(&self, ids: &[u32]) -> String {
        let joined: String = ids.iter().filter_map(|&id| self.piece(id)).collect();
        joined.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Tokens> {
        Tokens::parse("tokens.txt", text)
    }

    #[test]
    fn characters_pieces_and_chinese_become_text() {
        let characters = parse("<b>\n<space>\n'\na\nb\n").unwrap();
        assert_eq!((characters.len(), characters.blank(), characters.id(" ")), (5, 0, Some(1)));
        assert_eq!(characters.text(&[1, 1, 3, 0, 4, 1, 1, 3, 2, 99, 1]), "ab a'");
        let pieces = parse("<b>\n▁the\n▁\nre\n▁of▁a\n").unwrap();
        assert_eq!(pieces.text(&[1, 3, 2, 3, 4, 1]), "there re of a the");
        assert_eq!(pieces.id(" of a"), Some(4));
        let chinese = parse("<b>\r\n中\r\n文\r\n").unwrap();
        assert_eq!(chinese.text(&[1, 2]), "中文");
        assert_eq!(chinese.text(&[]), "");
    }

    #[test]
    fn text_form_is_read_back() {
        for text in ["<b>\n<space>\na\n", "<b>\n▁\na", "\u{feff}<b>\n▁a\n中\n"] {
            let tokens = parse(text).unwrap();
            assert_eq!(parse(&tokens.to_text()).unwrap(), tokens);
        }
        assert_eq!(parse("<b>\n▁\na").unwrap().to_text(), "<b>\n<space>\na\n");
    }

    #[test]
    fn hostile_files_are_refused_with_a_reason() {
        let many: String = std::iter::once("<b>\n".into()).chain((0..MAX_TOKENS).map(|i| format!("{i}\n"))).collect();
        for (text, reason) in [
            ("", "first line must be the blank"),
            ("<b>\n", "no token beside"),
            ("a\nb\n", "line 1: the blank <b> must be the first"),
            ("<b>\na\n<b>\n", "line 3: the blank"),
            ("<b>\na\n\nb\n", "line 3 is empty"),
            ("<b>\n \n", "line 2 is empty; write a space as <space>"),
            ("<b>\na b\n", "line 2: white space"),
            ("<b>\na\u{0}\n", "line 2: white space"),
            ("<b>\na\nb\na\n", "line 4: a is already on line 2"),
            ("<b>\n▁\n<space>\n", "line 3: <space> is already on line 2"),
            (&many, "more than 65536 tokens"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.starts_with("tokens.txt: ") && error.contains(reason), "{error}");
        }
    }

    #[test]
    fn hostile_paths_are_refused_with_a_reason() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.txt");
        for (bytes, reason) in
            [(b"<b>\n\xff\n".to_vec(), "not UTF-8 at byte 4"), (vec![b'a'; MAX_FILE_BYTES + 1], "bytes")]
        {
            std::fs::write(&path, bytes).unwrap();
            assert!(Tokens::load(&path).unwrap_err().to_string().contains(reason));
        }
        std::fs::write(&path, "<b>\na\n").unwrap();
        assert_eq!(Tokens::load(&path).unwrap().len(), 2);
        assert!(matches!(Tokens::load(folder.path()), Err(Error::Read { .. })));
        assert!(matches!(Tokens::load(folder.path().join("none")), Err(Error::Read { .. })));
    }
}
