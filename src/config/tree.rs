//! YAML text → a tree of nodes that know their line and column; no value is interpreted here.
//!
//! Works on parser events rather than serde, because serde stops at the first problem and loses how a scalar was written
//! (`007` is a cluster name, not the number 7). Depth, nodes and alias copies are bounded.

use std::collections::HashMap;

use serde_saphyr::granit_parser::{self, Event, Parser, ScalarStyle, ScanError, Span, Tag};

use super::problem::{Place, Problem, Problems};

/// Nested collections; the deepest key has four.
const MAX_DEPTH: usize = 32;
/// Nodes including copies made by aliases: 25,000 inline node roles, far from what hurts memory.
const MAX_NODES: usize = 100_000;

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) content: Content,
}

/// What a value is made of.
#[derive(Debug, Clone)]
pub(super) enum Content {
    /// Text as written, quotes and escapes resolved; `plain` if it had no quotes.
    Scalar { text: String, plain: bool },
    /// `[a, b]`
    List(Vec<Node>),
    /// `{a: 1}` in order of appearance, without duplicates.
    Map(Vec<Entry>),
    /// Something already reported; nothing more shall be said about it.
    Reported,
}

/// One key of a mapping and its value.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_place: Place,
    pub(super) value: Node,
}

impl Node {
    /// Whether the value is absent: nothing, `~` or `null` without quotes.
    pub(super) fn is_null(&self) -> bool {
        match &self.content {
            Content::Scalar { text, plain: true } => matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"),
            _ => false,
        }
    }

    /// What the value is, for messages.
    pub(super) fn kind_name(&self) -> &'static str {
        match &self.content {
            Content::Scalar { .. } => "a single value",
            Content::List(_) => "a list",
            Content::Map(_) => "a mapping",
            Content::Reported => "unusable",
        }
    }

    fn node_count(&self) -> usize {
        match &self.content {
            Content::Scalar { .. } | Content::Reported => 1,
            Content::List(items) => 1 + items.iter().map(Node::node_count).sum::<usize>(),
            Content::Map(entries) => 1 + entries.iter().map(|entry| entry.value.node_count()).sum::<usize>(),
        }
    }
}

/// Parses one document. `None` after a syntax error, which ends the parse; duplicate keys and the like are reported
/// and the rest is still read. An empty document is an empty mapping.
pub(super) fn parse_tree(text: &str, problems: &mut Problems) -> Option<Node> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let options = granit_parser::options! {
        emit_comments: false,
        emit_unresolved_aliases: true,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    let events = Parser::new_from_str_with_options(text, options);
    let mut builder = Builder { events, text, anchors: HashMap::new(), node_count: 0, problems };
    match builder.document() {
        Ok(root) => Some(root),
        Err(problem) => {
            builder.problems.add(problem.place, &problem.path, problem.text);
            None
        }
    }
}

struct Builder<'p, 'text, I> {
    events: I,
    text: &'text str,
    anchors: HashMap<usize, Node>,
    node_count: usize,
    problems: &'p mut Problems,
}

impl<'text, I: Iterator<Item = Result<(Event<'text>, Span), ScanError>>> Builder<'_, 'text, I> {
    fn document(&mut self) -> Result<Node, Problem> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => break,
                Event::DocumentStart(..) if root.is_some() => {
                    return Err(fatal(
                        place_of(span),
                        "a second document begins here; one file holds one configuration",
                    ));
                }
                Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd => {}
                _ => root = Some(self.node(event, span, "", 0)?),
            }
        }
        let empty = Node { place: Place::File, content: Content::Map(Vec::new()) };
        Ok(root.filter(|node| !node.is_null()).unwrap_or(empty))
    }

    fn next(&mut self) -> Result<(Event<'text>, Span), Problem> {
        match self.events.next() {
            Some(Ok(pair)) => Ok(pair),
            Some(Err(error)) => {
                let marker = error.marker();
                let place = Place::At { line: marker.line(), column: marker.col() + 1 };
                let line = self.text.lines().nth(marker.line().saturating_sub(1)).unwrap_or_default();
                // Inside [ ] and { } the brace of a reference opens a mapping.
                let is_bare_reference = line.find("${").is_some_and(|at| line[..at].contains(['{', '[']));
                let fix = if is_bare_reference {
                    "inside [ ] and { } put quotes around `${…}`"
                } else {
                    "mend this first, more may follow"
                };
                Err(fatal(place, format!("not valid YAML: {}; {fix}", error.kind())))
            }
            None => Err(fatal(Place::File, "the text ends inside a value")),
        }
    }

    fn node(&mut self, event: Event<'text>, span: Span, path: &str, depth: usize) -> Result<Node, Problem> {
        let place = place_of(span);
        self.count(1, place)?;
        if depth > MAX_DEPTH {
            return Err(fatal(place, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        let (content, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_tag(tag.as_deref(), place, path);
                let plain = style == ScalarStyle::Plain;
                (Content::Scalar { text: text.into_owned(), plain }, anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.refuse_tag(tag.as_deref(), place, path);
                (self.list(path, depth)?, anchor)
            }
            Event::MappingStart(_, anchor, tag) => {
                self.refuse_tag(tag.as_deref(), place, path);
                (self.map(path, depth)?, anchor)
            }
            Event::Alias(id) => return self.alias(id, place, path),
            Event::UnresolvedAlias(_) => {
                self.problems.add(place, path, "begins with `*`, a reference that nothing defines; quote the value");
                (Content::Reported, 0)
            }
            _ => return Err(fatal(place, "not valid YAML here")),
        };
        let node = Node { place, content };
        if anchor != 0 {
            self.count(node.node_count(), place)?;
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn list(&mut self, path: &str, depth: usize) -> Result<Content, Problem> {
        let mut items = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::SequenceEnd) {
                return Ok(Content::List(items));
            }
            let item_path = format!("{path}[{}]", items.len());
            items.push(self.node(event, span, &item_path, depth + 1)?);
        }
    }

    fn map(&mut self, path: &str, depth: usize) -> Result<Content, Problem> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut line_of_key: HashMap<String, Place> = HashMap::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                return Ok(Content::Map(entries));
            }
            let key_node = self.node(event, span, path, depth + 1)?;
            let key = match key_node.content {
                Content::Scalar { text, .. } => Some(text),
                _ => None,
            };
            let key_path = join(path, key.as_deref().unwrap_or("?"));
            let (event, span) = self.next()?;
            let value = self.node(event, span, &key_path, depth + 1)?;
            let Some(key) = key else {
                self.problems.add(key_node.place, path, "a key must be a plain word");
                continue;
            };
            if let Some(Place::At { line, .. }) = line_of_key.insert(key.clone(), key_node.place) {
                let text = format!("duplicate key, first given in line {line}; remove one of the two");
                self.problems.add(key_node.place, &key_path, text);
                continue;
            }
            entries.push(Entry { key, key_place: key_node.place, value });
        }
    }

    /// A copy of the anchored value; copies count like written nodes, which stops alias bombs.
    fn alias(&mut self, id: usize, place: Place, path: &str) -> Result<Node, Problem> {
        let Some(node) = self.anchors.get(&id) else {
            self.problems.add(place, path, "refers to itself; write the value out");
            return Ok(Node { place, content: Content::Reported });
        };
        let copy = Node { place, ..node.clone() };
        self.count(copy.node_count(), place)?;
        Ok(copy)
    }

    fn count(&mut self, nodes: usize, place: Place) -> Result<(), Problem> {
        self.node_count += nodes;
        if self.node_count > MAX_NODES {
            return Err(fatal(place, format!("more than {MAX_NODES} values, aliases included; shorten the file")));
        }
        Ok(())
    }

    fn refuse_tag(&mut self, tag: Option<&Tag>, place: Place, path: &str) {
        if tag.is_some() {
            self.problems.add(place, path, "begins with `!`, a YAML tag; remove it, or quote the value");
        }
    }
}

/// `a` and `b` as `a.b`; the top level is the empty path.
pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn place_of(span: Span) -> Place {
    Place::At { line: span.start.line(), column: span.start.col() + 1 }
}

fn fatal(place: Place, text: impl Into<String>) -> Problem {
    Problem { place, path: String::new(), text: text.into() }
}
