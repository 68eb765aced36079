//! Texts that reach an HTTP header or a URL → refused if no header can carry them. No value is ever part of what is said.

/// One line end at the end of a text is how it was stored, as by `kubectl create secret --from-file` or an editor, and no part of it.
pub fn without_line_end(text: &str) -> &str {
    text.strip_suffix('\n').map_or(text, |line| line.strip_suffix('\r').unwrap_or(line))
}

/// Errors: the text holds what no HTTP header takes.
pub fn check_header_text(text: &str) -> Result<(), &'static str> {
    check_control_characters(text)?;
    if text.is_ascii() {
        Ok(())
    } else {
        Err(
            "holds a character outside of ASCII, which no HTTP header takes; write the value itself, without quotes or marks around it",
        )
    }
}

/// Errors: the text has more than one line, or other characters that no key has.
pub fn check_control_characters(text: &str) -> Result<(), &'static str> {
    if text.contains(['\n', '\r']) {
        return Err("holds a line end; write the value alone, on one line");
    }
    if text.chars().any(char::is_control) {
        return Err("holds a control character; write the value alone, as plain text");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_end_is_no_part_of_a_text() {
        let cases =
            [("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), ("a\r", "a\r"), ("a", "a"), ("\n", ""), (" a ", " a ")];
        for (text, expected) in cases {
            assert_eq!(without_line_end(text), expected, "{text:?}");
        }
    }

    #[test]
    fn what_no_header_takes_is_refused() {
        for good in ["", "AKIAIOSFODNN7EXAMPLE", "a b/+=,~", "x\u{20}"] {
            assert_eq!(check_header_text(good), Ok(()), "{good:?}");
        }
        for bad in
            ["a\nb", "a\n", "a\r", "a\tb", "\u{0}", "\u{7f}", "\u{85}", "\u{e9}", "\u{201c}key\u{201d}", "\u{feff}key"]
        {
            assert!(check_header_text(bad).is_err(), "{bad:?}");
        }
        assert!(check_control_characters("p\u{e4}ss").is_ok());
    }
}
