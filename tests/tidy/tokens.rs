//! Rust source text → identifiers, string literals and punctuation with their lines; enough to look for words and paths.

use std::ops::Range;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A name or keyword.
    Word,
    /// A string literal, without its quotes; escapes as written.
    Text,
    /// A line or block comment.
    Comment,
    /// One character of punctuation.
    Mark,
}

/// A token and the line it starts on (from 1).
#[derive(Debug, Clone)]
pub struct Token {
    /// What it is.
    pub kind: Kind,
    /// Its text.
    pub text: String,
    /// Its line.
    pub line: usize,
}

impl Token {
    /// Whether it is this name.
    pub fn is_word(&self, word: &str) -> bool {
        self.kind == Kind::Word && self.text == word
    }

    /// Whether it is this character.
    pub fn is_mark(&self, mark: char) -> bool {
        self.kind == Kind::Mark && self.text.starts_with(mark)
    }
}

/// Cuts a source text into tokens. Numbers count as words; lifetimes as a mark and a word.
pub fn tokens(source: &str) -> Vec<Token> {
    let characters: Vec<char> = source.chars().collect();
    let mut tokens = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < characters.len() {
        let (kind, end) = token_at(&characters, at);
        let text: String = characters[at..end].iter().collect();
        let lines = text.matches('\n').count();
        if let Some(kind) = kind {
            let text = if kind == Kind::Text { inner_text(&text) } else { text };
            tokens.push(Token { kind, text, line });
        }
        line += lines;
        at = end;
    }
    tokens
}

/// Kind of the token at a position (None for blanks and characters) and the position after it.
fn token_at(characters: &[char], at: usize) -> (Option<Kind>, usize) {
    let next = |offset: usize| characters.get(at + offset).copied().unwrap_or('\0');
    let until = |from: usize, stop: &dyn Fn(usize) -> bool| {
        (from..characters.len()).find(|position| stop(*position)).unwrap_or(characters.len())
    };
    match characters[at] {
        blank if blank.is_whitespace() => (None, at + 1),
        '/' if next(1) == '/' => (Some(Kind::Comment), until(at, &|position| characters[position] == '\n')),
        '/' if next(1) == '*' => (Some(Kind::Comment), end_of_block_comment(characters, at)),
        '"' => (Some(Kind::Text), end_of_string(characters, at)),
        'b' | 'c' if next(1) == '"' => (Some(Kind::Text), end_of_string(characters, at + 1)),
        'r' if is_raw_string(characters, at + 1) => (Some(Kind::Text), end_of_raw_string(characters, at + 1)),
        'b' | 'c' if next(1) == 'r' && is_raw_string(characters, at + 2) => {
            (Some(Kind::Text), end_of_raw_string(characters, at + 2))
        }
        // A character literal, not a lifetime: escaped, or closed after one character.
        '\'' if next(1) == '\\' => (None, until(at + 3, &|position| characters[position] == '\'') + 1),
        '\'' if next(2) == '\'' => (None, at + 3),
        word if is_word(word) => (Some(Kind::Word), until(at, &|position| !is_word(characters[position]))),
        _ => (Some(Kind::Mark), at + 1),
    }
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

fn end_of_block_comment(characters: &[char], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0);
    while at + 1 < characters.len() {
        match (characters[at], characters[at + 1]) {
            ('/', '*') => (at, depth) = (at + 2, depth + 1),
            ('*', '/') => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    characters.len()
}

fn end_of_string(characters: &[char], quote: usize) -> usize {
    let mut at = quote + 1;
    while at < characters.len() {
        match characters[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    characters.len()
}

fn is_raw_string(characters: &[char], at: usize) -> bool {
    characters[at..].iter().find(|character| **character != '#') == Some(&'"')
}

fn end_of_raw_string(characters: &[char], start: usize) -> usize {
    let hashes = characters[start..].iter().take_while(|character| **character == '#').count();
    let mut at = start + hashes + 1;
    while at < characters.len() {
        let closing = &characters[at..characters.len().min(at + 1 + hashes)];
        if closing.len() == 1 + hashes && closing[0] == '"' && closing[1..].iter().all(|mark| *mark == '#') {
            return at + 1 + hashes;
        }
        at += 1;
    }
    characters.len()
}

/// A literal without prefix, hashes and quotes.
fn inner_text(literal: &str) -> String {
    let opened = literal.find('"').map_or(0, |quote| quote + 1);
    let closed = literal.rfind('"').unwrap_or(literal.len()).max(opened);
    literal[opened..closed].to_owned()
}

/// The tokens outside `#[cfg(test)]` and `#[test]` items.
pub fn without_tests(tokens: &[Token]) -> Vec<Token> {
    let mut kept = tokens.to_vec();
    for item in test_items(tokens).into_iter().rev() {
        kept.drain(item);
    }
    kept
}

/// Positions of test items: each attribute and the module, function or statement that follows it.
pub fn test_items(tokens: &[Token]) -> Vec<Range<usize>> {
    let mut items = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if starts_test_item(&tokens[at..]) {
            let end = end_of_item(tokens, at);
            items.push(at..end);
            at = end;
        } else {
            at += 1;
        }
    }
    items
}

/// Whether `#[cfg(test)]` or `#[test]` starts here.
fn starts_test_item(tokens: &[Token]) -> bool {
    let text: String = tokens.iter().take(7).map(|token| token.text.as_str()).collect();
    text.starts_with("#[cfg(test)]") || text.starts_with("#[test]")
}

/// The position after the item at `at`: after its `;`, or after the `}` that closes its first `{`.
fn end_of_item(tokens: &[Token], at: usize) -> usize {
    let mut depth = 0;
    for (position, token) in tokens.iter().enumerate().skip(at) {
        if token.kind != Kind::Mark {
            continue;
        }
        match token.text.as_str() {
            "{" => depth += 1,
            "}" if depth == 1 => return position + 1,
            "}" => depth -= 1,
            ";" if depth == 0 => return position + 1,
            _ => {}
        }
    }
    tokens.len()
}

/// Every path that starts with `root`, as (first segment after it, its line): `root::a::b`, `root::{a::b, c}`.
pub fn segments_after(tokens: &[Token], root: &str) -> Vec<(String, usize)> {
    let code: Vec<&Token> = tokens.iter().filter(|token| token.kind != Kind::Comment).collect();
    let mut found = Vec::new();
    for (at, token) in code.iter().enumerate() {
        // `a::root::b` is another path.
        let inside_a_path = at > 0 && code[at - 1].is_mark(':');
        if token.is_word(root) && !inside_a_path && is_path_mark(&code, at + 1) {
            segments_at(&code, at + 3, &mut found);
        }
    }
    found
}

/// The segment, or the first segments of a group, at a position.
pub fn segments_at(code: &[&Token], at: usize, found: &mut Vec<(String, usize)>) {
    let Some(first) = code.get(at) else { return };
    if first.kind == Kind::Word {
        found.push((first.text.clone(), first.line));
    }
    if !first.is_mark('{') {
        return;
    }
    let (mut depth, mut at_start) = (0, false);
    for token in &code[at..] {
        match token.text.as_str() {
            "{" => (depth, at_start) = (depth + 1, depth == 0),
            "}" if depth == 1 => return,
            "}" => depth -= 1,
            "," => at_start = depth == 1,
            _ => {
                if at_start && depth == 1 && token.kind == Kind::Word {
                    found.push((token.text.clone(), token.line));
                }
                at_start = false;
            }
        }
    }
}

/// Whether `::` stands at a position.
pub fn is_path_mark(code: &[&Token], at: usize) -> bool {
    at + 1 < code.len() && code[at].is_mark(':') && code[at + 1].is_mark(':')
}
