//! Products and quotients as the chosen semantics compute them (table of behaviours, row 17).

/// A result that PostgreSQL's double precision refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ArithmeticError {
    /// A product or quotient of finite non-zero operands is 0.
    #[error("value out of range: underflow")]
    Underflow,
    /// A product or quotient of finite operands is infinite.
    #[error("value out of range: overflow")]
    Overflow,
}

/// Rules for products and quotients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arithmetic {
    /// Whether underflow and overflow are errors; otherwise the IEEE result stands.
    pub range_is_checked: bool,
}

impl Arithmetic {
    /// `left * right`
    pub fn product(self, left: f64, right: f64) -> Result<f64, ArithmeticError> {
        self.check(left * right, left, left.is_finite() && right.is_finite())
    }

    /// `left / right`; `right` must not be 0.
    pub fn quotient(self, left: f64, right: f64) -> Result<f64, ArithmeticError> {
        self.check(left / right, left, left.is_finite() && right.is_finite())
    }

    fn check(self, result: f64, left: f64, operands_are_finite: bool) -> Result<f64, ArithmeticError> {
        if !self.range_is_checked || !operands_are_finite {
            return Ok(result);
        }
        if result == 0.0 && left != 0.0 {
            return Err(ArithmeticError::Underflow);
        }
        if result.is_infinite() {
            return Err(ArithmeticError::Overflow);
        }
        Ok(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_double_underflows_only_where_checked() {
        let tiny = f64::from_bits(1);
        assert_eq!(Arithmetic { range_is_checked: true }.quotient(tiny, 3_600.0), Err(ArithmeticError::Underflow));
        assert_eq!(Arithmetic { range_is_checked: false }.quotient(tiny, 3_600.0), Ok(0.0));
        assert_eq!(Arithmetic { range_is_checked: true }.quotient(0.0, 3_600.0), Ok(0.0));
        assert_eq!(Arithmetic { range_is_checked: true }.product(1e300, 1e300), Err(ArithmeticError::Overflow));
    }
}
