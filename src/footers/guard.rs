//! Footer bytes → yes or no, before the Parquet library sees them.
//!
//! The library reserves memory for as many row groups and children as a footer claims, and descends into schemas as deep as
//! they claim to be. A few corrupt bytes could so end the process, which no caller can catch. This walk over the Thrift
//! structure (compact protocol) refuses such claims; it allocates next to nothing and understands no more than it must.

/// Lists, structs and maps inside each other; the format itself needs about six.
const MAX_DEPTH: u32 = 32;
/// Groups inside each other in the schema.
const MAX_SCHEMA_DEPTH: usize = 64;
/// Nodes of the schema; reports have about thirty.
const MAX_SCHEMA_ELEMENTS: usize = 100_000;
/// Row groups are numbered with 16 bits.
const MAX_ROW_GROUPS: usize = i16::MAX as usize;

/// Field numbers of `FileMetaData` and `SchemaElement` in the format's definition.
const SCHEMA_FIELD: i64 = 2;
const ROW_GROUPS_FIELD: i64 = 4;
const CHILD_COUNT_FIELD: i64 = 5;

/// Wire types of the compact protocol.
mod wire {
    pub(super) const TRUE: u8 = 1;
    pub(super) const FALSE: u8 = 2;
    pub(super) const BYTE: u8 = 3;
    pub(super) const I16: u8 = 4;
    pub(super) const I32: u8 = 5;
    pub(super) const I64: u8 = 6;
    pub(super) const DOUBLE: u8 = 7;
    pub(super) const BINARY: u8 = 8;
    pub(super) const LIST: u8 = 9;
    pub(super) const SET: u8 = 10;
    pub(super) const MAP: u8 = 11;
    pub(super) const STRUCT: u8 = 12;
    pub(super) const UUID: u8 = 13;
}

type Checked<T> = Result<T, &'static str>;

const ENDS_EARLY: &str = "it ends early";

/// Walks the footer; `Err` says which rule it breaks.
pub(super) fn check(footer: &[u8]) -> Checked<()> {
    let mut walk = Walk { rest: footer };
    let mut field = 0;
    while let Some(kind) = walk.field(&mut field)? {
        match (field, kind) {
            (SCHEMA_FIELD, wire::LIST) => walk.schema()?,
            (ROW_GROUPS_FIELD, wire::LIST) => {
                let (element, count) = walk.list()?;
                if count > MAX_ROW_GROUPS {
                    return Err("it claims more row groups than the format allows");
                }
                walk.skip_elements(element, count, MAX_DEPTH)?;
            }
            _ => walk.skip(kind, MAX_DEPTH)?,
        }
    }
    Ok(())
}

struct Walk<'a> {
    rest: &'a [u8],
}

impl Walk<'_> {
    /// The list of schema nodes, depth first: the claimed children must be there, and not too deep.
    fn schema(&mut self) -> Checked<()> {
        let (element, count) = self.list()?;
        if element != wire::STRUCT && count > 0 {
            return Err("its schema is not a list of nodes");
        }
        if count > MAX_SCHEMA_ELEMENTS {
            return Err("its schema is too large");
        }
        // Children that are still to come, per open group.
        let mut open_groups: Vec<usize> = Vec::new();
        for position in 0..count {
            let child_count = self.schema_node()?;
            if child_count > count - position {
                return Err("its schema claims more nodes than it has");
            }
            if let Some(left) = open_groups.last_mut() {
                *left -= 1;
            }
            if child_count > 0 {
                open_groups.push(child_count);
            }
            if open_groups.len() > MAX_SCHEMA_DEPTH {
                return Err("its schema is nested too deeply");
            }
            while open_groups.last() == Some(&0) {
                open_groups.pop();
            }
        }
        Ok(())
    }

    /// One schema node; gives its number of children.
    fn schema_node(&mut self) -> Checked<usize> {
        let mut child_count = 0;
        let mut field = 0;
        while let Some(kind) = self.field(&mut field)? {
            if field == CHILD_COUNT_FIELD && kind == wire::I32 {
                let claimed = usize::try_from(self.zigzag()?);
                child_count = claimed.map_err(|_| "a schema node has a negative number of children")?;
            } else {
                self.skip(kind, MAX_DEPTH)?;
            }
        }
        Ok(child_count)
    }

    fn skip(&mut self, kind: u8, depth: u32) -> Checked<()> {
        let Some(depth) = depth.checked_sub(1) else { return Err("it is nested too deeply") };
        match kind {
            wire::TRUE | wire::FALSE => Ok(()),
            wire::BYTE => self.take(1).map(drop),
            wire::I16 | wire::I32 | wire::I64 => self.varint().map(drop),
            wire::DOUBLE => self.take(8).map(drop),
            wire::UUID => self.take(16).map(drop),
            wire::BINARY => {
                let length = self.count()?;
                self.take(length).map(drop)
            }
            wire::LIST | wire::SET => {
                let (element, count) = self.list()?;
                self.skip_elements(element, count, depth)
            }
            wire::MAP => self.skip_map(depth),
            wire::STRUCT => {
                let mut field = 0;
                while let Some(kind) = self.field(&mut field)? {
                    self.skip(kind, depth)?;
                }
                Ok(())
            }
            _ => Err("it holds an unknown type"),
        }
    }

    fn skip_elements(&mut self, element: u8, count: usize, depth: u32) -> Checked<()> {
        for _ in 0..count {
            // Unlike a field, an element that is true or false takes a byte.
            match element {
                wire::TRUE | wire::FALSE => self.take(1).map(drop)?,
                _ => self.skip(element, depth)?,
            }
        }
        Ok(())
    }

    fn skip_map(&mut self, depth: u32) -> Checked<()> {
        let count = self.count()?;
        if count == 0 {
            return Ok(());
        }
        let kinds = self.byte()?;
        for _ in 0..count {
            self.skip_elements(kinds >> 4, 1, depth)?;
            self.skip_elements(kinds & 0x0F, 1, depth)?;
        }
        Ok(())
    }

    /// The header of a field: its type, `None` at the end of the struct; `field` becomes its number.
    fn field(&mut self, field: &mut i64) -> Checked<Option<u8>> {
        let header = self.byte()?;
        let kind = header & 0x0F;
        if kind == 0 {
            return Ok(None);
        }
        match i64::from(header >> 4) {
            0 => *field = self.zigzag()?,
            step => *field = field.saturating_add(step),
        }
        Ok(Some(kind))
    }

    /// The header of a list. Every element takes at least a byte, so more than there are bytes cannot be.
    fn list(&mut self) -> Checked<(u8, usize)> {
        let header = self.byte()?;
        let count = match header >> 4 {
            15 => self.count()?,
            short => usize::from(short),
        };
        if count > self.rest.len() {
            return Err("a list claims more elements than there are bytes");
        }
        Ok((header & 0x0F, count))
    }

    fn count(&mut self) -> Checked<usize> {
        let count = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
        if count > self.rest.len() { Err("a length goes beyond its end") } else { Ok(count) }
    }

    fn zigzag(&mut self) -> Checked<i64> {
        let value = self.varint()?;
        let magnitude = i64::try_from(value >> 1).expect("63 bits fit");
        Ok(if value & 1 == 0 { magnitude } else { -magnitude - 1 })
    }

    fn varint(&mut self) -> Checked<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err("a number is too long")
    }

    fn byte(&mut self) -> Checked<u8> {
        let (first, rest) = self.rest.split_first().ok_or(ENDS_EARLY)?;
        self.rest = rest;
        Ok(*first)
    }

    fn take(&mut self, length: usize) -> Checked<&[u8]> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(ENDS_EARLY)?;
        self.rest = rest;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A struct with one list field: header, list header, content, end.
    fn footer(field: u8, list: &[u8]) -> Vec<u8> {
        [&[field << 4 | wire::LIST], list, &[0]].concat()
    }

    #[test]
    fn a_list_cannot_be_longer_than_the_footer() {
        let row_groups = footer(4, &[0xFC, 0xFF, 0xFF, 0xFF, 0xFF, 0x07]);
        assert_eq!(check(&row_groups), Err("a length goes beyond its end"));
        let short_header = footer(5, &[0x5C]);
        assert_eq!(check(&short_header), Err("a list claims more elements than there are bytes"));
    }

    #[test]
    fn a_schema_node_cannot_claim_children_that_are_not_there() {
        // One node; field 5 (children) as i32, zigzag 1000.
        let schema = footer(2, &[0x1C, 0x55, 0xD0, 0x0F, 0x00]);
        assert_eq!(check(&schema), Err("its schema claims more nodes than it has"));
        let negative = footer(2, &[0x1C, 0x55, 0x01, 0x00]);
        assert_eq!(check(&negative), Err("a schema node has a negative number of children"));
    }

    #[test]
    fn a_schema_cannot_be_arbitrarily_deep() {
        let node = [0x55, 0x02, 0x00];
        let mut list = vec![0xFC, 0xC8, 0x01];
        list.extend(node.repeat(199));
        list.push(0x00);
        assert_eq!(check(&footer(2, &list)), Err("its schema is nested too deeply"));
    }

    #[test]
    fn structs_inside_structs_have_an_end() {
        let deep = [&[0x1C_u8].repeat(100)[..], &[0].repeat(101)].concat();
        assert_eq!(check(&deep), Err("it is nested too deeply"));
        assert_eq!(check(&[]), Err(ENDS_EARLY));
        assert_eq!(check(&[0]), Ok(()));
    }
}
