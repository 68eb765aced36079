//! `--shard INDEX/COUNT`, or what Kubernetes tells the pods of an indexed Job → which of several pods this one is.

use std::fmt;

use crate::error::{ErrorKind, Failure};

/// Which of how many pods that share the same days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// From 0.
    pub index: u32,
    /// At least 2.
    pub count: u32,
}

/// Far more pods than any database would bear.
const MOST_SHARDS: u32 = 10_000;
const INDEX_VARIABLE: &str = "JOB_COMPLETION_INDEX";
const COUNT_VARIABLE: &str = "JOB_COMPLETION_COUNT";

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

impl Shard {
    /// `INDEX/COUNT`; `None` for the only one of one.
    /// Errors: what is wrong with the text.
    fn parse(text: &str) -> Result<Option<Self>, String> {
        let (index, count) =
            text.split_once('/').ok_or_else(|| "needs the form INDEX/COUNT, such as 0/4".to_owned())?;
        // No sign, no space: a number is its digits.
        let number = |part: &str| {
            let is_plain = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            part.parse::<u32>().ok().filter(|_| is_plain)
        };
        let (Some(index), Some(count)) = (number(index), number(count)) else {
            return Err("needs two whole numbers as INDEX/COUNT, such as 0/4".to_owned());
        };
        if count == 0 || count > MOST_SHARDS {
            return Err(format!("has {count} as COUNT; 1 to {MOST_SHARDS} pods can share the days"));
        }
        if index >= count {
            return Err(format!("has {index} as INDEX; it counts from 0 to {}", count - 1));
        }
        Ok((count > 1).then_some(Self { index, count }))
    }
}

/// The shard of this process: what the command line says, else what the environment says; `None` if it works alone.
pub fn shard_of_environment(option: Option<&str>) -> Result<Option<Shard>, Failure> {
    shard_of(option, &|name| std::env::var(name).ok())
}

/// The same with an environment of the caller's.
pub fn shard_of(option: Option<&str>, environment: &dyn Fn(&str) -> Option<String>) -> Result<Option<Shard>, Failure> {
    if let Some(text) = option {
        return Shard::parse(text).map_err(|fault| Failure::new(ErrorKind::Usage, format!("--shard `{text}` {fault}")));
    }
    let given = |name: &str| environment(name).filter(|text| !text.is_empty());
    let Some(index) = given(INDEX_VARIABLE) else { return Ok(None) };
    let Some(count) = given(COUNT_VARIABLE) else {
        let message = format!(
            "{INDEX_VARIABLE} is set and {COUNT_VARIABLE} is not: set it to the completions of the Job, or give --shard \
             INDEX/COUNT"
        );
        return Err(Failure::new(ErrorKind::Usage, message));
    };
    let text = format!("{index}/{count}");
    Shard::parse(&text).map_err(|fault| {
        let message = format!("{INDEX_VARIABLE}/{COUNT_VARIABLE} `{text}` {fault}");
        Failure::new(ErrorKind::Usage, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(option: Option<&str>, index: Option<&str>, count: Option<&str>) -> Result<Option<Shard>, String> {
        let environment = |name: &str| match name {
            INDEX_VARIABLE => index.map(str::to_owned),
            COUNT_VARIABLE => count.map(str::to_owned),
            _ => None,
        };
        shard_of(option, &environment).map_err(|failure| {
            assert_eq!(failure.kind, ErrorKind::Usage);
            failure.message
        })
    }

    #[test]
    fn the_option_wins_over_the_environment_and_one_of_one_is_no_shard() {
        let shard = |index, count| Ok(Some(Shard { index, count }));
        assert_eq!(of(None, None, None), Ok(None));
        assert_eq!(of(None, None, Some("4")), Ok(None));
        assert_eq!(of(Some("3/4"), None, None), shard(3, 4));
        assert_eq!(of(None, Some("0"), Some("2")), shard(0, 2));
        assert_eq!(of(Some("1/3"), Some("0"), Some("2")), shard(1, 3));
        assert_eq!(of(Some("0/1"), Some("0"), None), Ok(None), "the option says that it works alone");
        assert_eq!(of(None, Some("0"), Some("1")), Ok(None));
        assert_eq!(of(Some("9999/10000"), None, None), shard(9_999, 10_000));
    }

    #[test]
    fn bad_values_are_refused_with_what_is_wrong() {
        for (text, part) in [
            ("", "form INDEX/COUNT"),
            ("3", "form INDEX/COUNT"),
            ("a/4", "two whole numbers"),
            ("1/4/2", "two whole numbers"),
            ("-1/4", "two whole numbers"),
            ("+1/4", "two whole numbers"),
            (" 1/4", "two whole numbers"),
            ("1/", "two whole numbers"),
            ("0/99999999999", "two whole numbers"),
            ("0/0", "0 as COUNT"),
            ("0/10001", "10001 as COUNT"),
            ("4/4", "from 0 to 3"),
        ] {
            let message = of(Some(text), None, None).unwrap_err();
            assert!(message.contains(part), "{text}: {message}");
        }
        assert!(of(None, Some("1"), None).unwrap_err().contains("JOB_COMPLETION_COUNT is not"));
        assert!(of(None, Some("5"), Some("4")).unwrap_err().contains("from 0 to 3"));
        assert!(of(None, Some("x"), Some("4")).unwrap_err().contains("JOB_COMPLETION_INDEX"));
    }
}
