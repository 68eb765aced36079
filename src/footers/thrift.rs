//! Bytes in the compact protocol of Thrift → one value after the other, or the rule that they break.
//!
//! Just enough to walk over footers and page headers; allocates nothing.

/// Lists, structs and maps inside each other; the format itself needs about six.
pub(super) const MAX_DEPTH: u32 = 32;

/// Wire types of the compact protocol.
pub(super) mod wire {
    pub(in crate::footers) const TRUE: u8 = 1;
    pub(in crate::footers) const FALSE: u8 = 2;
    pub(in crate::footers) const BYTE: u8 = 3;
    pub(in crate::footers) const I16: u8 = 4;
    pub(in crate::footers) const I32: u8 = 5;
    pub(in crate::footers) const I64: u8 = 6;
    pub(in crate::footers) const DOUBLE: u8 = 7;
    pub(in crate::footers) const BINARY: u8 = 8;
    pub(in crate::footers) const LIST: u8 = 9;
    pub(in crate::footers) const SET: u8 = 10;
    pub(in crate::footers) const MAP: u8 = 11;
    pub(in crate::footers) const STRUCT: u8 = 12;
    pub(in crate::footers) const UUID: u8 = 13;
}

/// A value, or the rule that is broken.
pub(super) type Checked<T> = Result<T, &'static str>;

/// There are fewer bytes than are claimed.
pub(super) const ENDS_EARLY: &str = "it ends early";

/// What is left of some bytes in the compact protocol of Thrift.
pub(super) struct Walk<'a> {
    pub(super) rest: &'a [u8],
}

impl<'a> Walk<'a> {
    /// Passes over a value of a type.
    pub(super) fn skip(&mut self, kind: u8, depth: u32) -> Checked<()> {
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

    /// Passes over the elements of a list.
    pub(super) fn skip_elements(&mut self, element: u8, count: usize, depth: u32) -> Checked<()> {
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
    pub(super) fn field(&mut self, field: &mut i64) -> Checked<Option<u8>> {
        let header = self.byte()?;
        let kind = header & 0x0F;
        if kind == 0 {
            return Ok(None);
        }
        match i64::from(header >> 4) {
            0 => *field = self.zigzag()?,
            step => *field += step,
        }
        // The library keeps 16 bits of a number: a greater one would mean another field there than here.
        if i16::try_from(*field).is_err() {
            return Err("a field has an impossible number");
        }
        Ok(Some(kind))
    }

    /// The header of a list. Every element takes at least a byte, so more than there are bytes cannot be.
    pub(super) fn list(&mut self) -> Checked<(u8, usize)> {
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

    /// A length that lies within what is left.
    pub(super) fn count(&mut self) -> Checked<usize> {
        let count = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
        if count > self.rest.len() { Err("a length goes beyond its end") } else { Ok(count) }
    }

    /// A signed number.
    pub(super) fn zigzag(&mut self) -> Checked<i64> {
        let value = self.varint()?;
        let magnitude = i64::try_from(value >> 1).expect("63 bits fit");
        Ok(if value & 1 == 0 { magnitude } else { -magnitude - 1 })
    }

    /// An unsigned number.
    pub(super) fn varint(&mut self) -> Checked<u64> {
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

    /// So many bytes.
    pub(super) fn take(&mut self, length: usize) -> Checked<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(ENDS_EARLY)?;
        self.rest = rest;
        Ok(taken)
    }
}
