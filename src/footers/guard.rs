//! Footer bytes → yes or no, before the Parquet library sees them.
//!
//! The library reserves memory for as many row groups and children as a footer claims, and descends into schemas as deep as
//! they claim to be. A few corrupt bytes could so end the process, which no caller can catch. This walk over the Thrift
//! structure (compact protocol) refuses such claims; it allocates next to nothing and understands no more than it must.

use super::thrift::{Checked, MAX_DEPTH, Walk, wire};

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
            // The library goes by the number alone and would read a list.
            (SCHEMA_FIELD | ROW_GROUPS_FIELD, _) => return Err("its schema or row groups are no list"),
            _ => walk.skip(kind, MAX_DEPTH)?,
        }
    }
    Ok(())
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
            if field == CHILD_COUNT_FIELD {
                if kind != wire::I32 {
                    return Err("the number of children of a schema node is no number");
                }
                let claimed = usize::try_from(self.zigzag()?);
                child_count = claimed.map_err(|_| "a schema node has a negative number of children")?;
            } else {
                self.skip(kind, MAX_DEPTH)?;
            }
        }
        Ok(child_count)
    }
}

#[cfg(test)]
mod tests {
    use super::super::thrift::ENDS_EARLY;
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
    fn fields_are_what_the_library_takes_them_for() {
        assert_eq!(check(&[2 << 4 | wire::SET, 0, 0]), Err("its schema or row groups are no list"));
        assert_eq!(
            check(&footer(2, &[0x1C, 0x56, 0x02, 0x00])),
            Err("the number of children of a schema node is no number")
        );
        // 65,538 in 16 bits is 2, the schema.
        assert_eq!(check(&[wire::LIST, 0x84, 0x80, 0x08, 0]), Err("a field has an impossible number"));
    }

    #[test]
    fn structs_inside_structs_have_an_end() {
        let deep = [&[0x1C_u8].repeat(100)[..], &[0].repeat(101)].concat();
        assert_eq!(check(&deep), Err("it is nested too deeply"));
        assert_eq!(check(&[]), Err(ENDS_EARLY));
        assert_eq!(check(&[0]), Ok(()));
    }
}
