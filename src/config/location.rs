//! `storage.url` and `storage.endpoint` as text → a checked location and endpoint.

use std::path::PathBuf;

use super::Location;

const FORM: &str = "write s3://bucket, s3://bucket/prefix or file:///folder";

/// Reads `storage.url`. Errors: what is wrong and the fix, without the text itself.
pub(super) fn parse_url(url: &str) -> Result<Location, String> {
    if let Some(rest) = url.strip_prefix("s3://") {
        return parse_bucket(rest);
    }
    if let Some(rest) = url.strip_prefix("file://") {
        return parse_folder(rest);
    }
    if url.starts_with('/') {
        return Err("is a path without a scheme; write file:// before it".to_owned());
    }
    match url.split_once("://") {
        Some((scheme @ ("s3a" | "s3n" | "S3"), _)) => Err(format!("has the scheme {scheme}://; write s3://")),
        Some(("http" | "https", _)) => {
            Err("is a web address; give the server as storage.endpoint, and here s3://bucket[/prefix]".to_owned())
        }
        Some(_) => Err(format!("has an unknown scheme; {FORM}")),
        None => Err(format!("has no scheme; {FORM}")),
    }
}

fn parse_bucket(rest: &str) -> Result<Location, String> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() {
        return Err("names no bucket; write s3://bucket[/prefix]".to_owned());
    }
    let is_bucket_character = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if !bucket.chars().all(is_bucket_character) {
        return Err("has a bucket name with characters other than letters, digits, `-`, `.`, `_`".to_owned());
    }
    let prefix = prefix.trim_matches('/');
    if !prefix.is_empty() && prefix.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
        return Err("has an empty, `.` or `..` part in its prefix; remove it".to_owned());
    }
    Ok(Location::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
}

fn parse_folder(rest: &str) -> Result<Location, String> {
    if !rest.starts_with('/') {
        return Err("is not absolute; a local folder has three slashes: file:///folder".to_owned());
    }
    let path = if rest.len() > 1 { rest.trim_end_matches('/') } else { rest };
    Ok(Location::Folder(PathBuf::from(if path.is_empty() { "/" } else { path })))
}

/// Whether what follows the host is a port, or nothing. The colons of an IPv6 address stand in brackets.
fn has_usable_port(authority: &str) -> bool {
    let after_host = authority.rsplit_once(']').map_or(authority, |(_, rest)| rest);
    after_host.split_once(':').is_none_or(|(_, port)| port.parse::<u16>().is_ok_and(|port| port > 0))
}

/// Reads `storage.endpoint`; a slash at the end is dropped. Errors as for the URL.
pub(super) fn parse_endpoint(endpoint: &str, allow_http: bool) -> Result<String, String> {
    let (scheme, rest) = endpoint.split_once("://").ok_or("has no scheme; write https:// before it")?;
    let is_http = scheme.eq_ignore_ascii_case("http");
    if !is_http && !scheme.eq_ignore_ascii_case("https") {
        return Err("has a scheme other than https; write https://host[:port]".to_owned());
    }
    let authority = rest.split('/').next().unwrap_or_default();
    // Behind a slash as well: a key may hold one, and then what stands before it looks like the host.
    if rest.contains('@') {
        return Err("holds a user name or password; use storage.access_key and storage.secret_key".to_owned());
    }
    if authority.is_empty()
        || authority.starts_with(':')
        || rest.contains(['?', '#'])
        || !rest.bytes().all(|byte| byte.is_ascii_graphic())
        || !has_usable_port(authority)
    {
        return Err("is not the address of a server; write https://host[:port]".to_owned());
    }
    if is_http && !allow_http {
        return Err("is plain http; use https, or set storage.allow_http: true".to_owned());
    }
    Ok(endpoint.trim_end_matches('/').to_owned())
}
