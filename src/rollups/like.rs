//! SQL LIKE patterns: `%` any run, `_` one character, case-sensitive, the whole text (contract, section 3.4.4).

/// A parsed pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LikePattern {
    tokens: Vec<Token>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    AnyRun,
    AnyCharacter,
    Character(char),
    /// The escape character with nothing behind it.
    TrailingEscape,
}

/// What PostgreSQL refuses, at the moment when matching gets there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("LIKE pattern ends with its escape character")]
pub struct TrailingEscape;

impl LikePattern {
    /// Parses a pattern; with `escape`, a backslash makes the next character literal.
    pub fn parse(pattern: &str, escape: bool) -> Self {
        let mut tokens = Vec::new();
        let mut characters = pattern.chars();
        while let Some(character) = characters.next() {
            tokens.push(match character {
                '\\' if escape => characters.next().map_or(Token::TrailingEscape, Token::Character),
                '%' => Token::AnyRun,
                '_' => Token::AnyCharacter,
                other => Token::Character(other),
            });
        }
        Self { tokens }
    }

    /// Whether the whole text matches. Takes at most pattern × text steps.
    /// Errors: `TrailingEscape` if matching comes to a last backslash with text left.
    pub fn matches(&self, text: &str) -> Result<bool, TrailingEscape> {
        let text: Vec<char> = text.chars().collect();
        let (mut at, mut token) = (0, 0);
        // Where to go on if the run behind the last `%` has to be one character longer.
        let mut retry: Option<(usize, usize)> = None;
        while at < text.len() {
            let fits = match self.tokens.get(token) {
                Some(Token::AnyRun) => {
                    retry = Some((at, token));
                    token += 1;
                    continue;
                }
                Some(Token::AnyCharacter) => true,
                Some(Token::Character(character)) => *character == text[at],
                Some(Token::TrailingEscape) => return Err(TrailingEscape),
                None => false,
            };
            if fits {
                at += 1;
                token += 1;
            } else if let Some((run_start, run_token)) = retry {
                retry = Some((run_start + 1, run_token));
                at = run_start + 1;
                token = run_token + 1;
            } else {
                return Ok(false);
            }
        }
        Ok(self.tokens[token..].iter().all(|token| *token == Token::AnyRun))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_texts() {
        let cases = [
            ("openshift-%", "openshift-monitoring", true),
            ("openshift-%", "my-openshift-x", false),
            ("openshift", "openshift-x", false),
            ("%", "", true),
            ("", "", true),
            ("", "a", false),
            ("_", "é", true),
            ("_", "", false),
            ("a%b%c", "a-b-b-c", true),
            ("a%b%c", "a-b-b-d", false),
            ("%%_", "x", true),
            ("A%", "a", false),
            (r"a\%", r"a\x", true),
        ];
        for (pattern, text, expected) in cases {
            let parsed = LikePattern::parse(pattern, false);
            assert_eq!(parsed.matches(text), Ok(expected), "{pattern} against {text}");
        }
    }

    #[test]
    fn backslash_escapes_only_where_it_is_asked_to() {
        assert_eq!(LikePattern::parse(r"a\%", true).matches("a%"), Ok(true));
        assert_eq!(LikePattern::parse(r"a\%", true).matches("ab"), Ok(false));
        assert_eq!(LikePattern::parse(r"a\", false).matches(r"a\"), Ok(true));
    }

    #[test]
    fn an_escape_at_the_end_is_refused_only_where_matching_gets_there() {
        assert_eq!(LikePattern::parse(r"a\", true).matches("a"), Ok(false));
        assert_eq!(LikePattern::parse(r"a\", true).matches("b"), Ok(false));
        assert_eq!(LikePattern::parse(r"a\", true).matches("ab"), Err(TrailingEscape));
        assert_eq!(LikePattern::parse(r"%\", true).matches("a"), Err(TrailingEscape));
        assert_eq!(LikePattern::parse(r"%\", true).matches(""), Ok(false));
    }
}
