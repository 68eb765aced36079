//! The three named behaviours; every place where they differ asks a question that is answered here.

use std::fmt;

use crate::labels::LabelRules;

/// Which reference the numbers agree with. Row numbers in the docs of the methods are those of the table of behaviours in
/// docs/rollups.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Semantics {
    /// The books close: no usage is lost, none is counted twice.
    Balanced,
    /// What Koku's on-prem SQL writes, its multiplications included.
    SelfHosted,
    /// What Koku's Trino SQL writes.
    Trino,
}

/// How a double becomes a decimal with 15 places (row 15).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecimalRounding {
    /// Shortest decimal text of the double, rounded half up.
    Shortest,
    /// The double at 15 significant digits, rounded half up.
    FifteenDigits,
}

impl Semantics {
    /// The name used in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Semantics::Balanced => "balanced",
            Semantics::SelfHosted => "self_hosted",
            Semantics::Trino => "trino",
        }
    }

    /// Row 0: usage, storage and labels from the daily objects, capacities from the raw ones, as the reference reads them;
    /// otherwise the raw objects only, each once.
    pub fn reads_daily_objects(self) -> bool {
        self != Semantics::Balanced
    }

    /// Row 1: the keys that are kept. Without any enabled key Trino keeps none at all, the others the always-enabled one.
    pub fn kept_keys(self, enabled: &[String]) -> Vec<String> {
        if enabled.is_empty() && self == Semantics::Trino {
            return Vec::new();
        }
        let mut keys = enabled.to_vec();
        keys.push(ALWAYS_ENABLED_KEY.to_owned());
        keys.sort();
        keys.dedup();
        keys
    }

    /// Rows 2 to 5 and the operator's raw form.
    pub fn label_rules(self, malformed_as_empty: bool) -> LabelRules {
        LabelRules {
            null_is_distinct: self == Semantics::Trino,
            refuse_blank: self == Semantics::Trino,
            refuse_nested: self == Semantics::Trino,
            refuse_unstorable: self == Semantics::SelfHosted,
            operator_text: self == Semantics::Balanced,
            malformed_as_empty: malformed_as_empty && self == Semantics::Balanced,
        }
    }

    /// Row 6: a missing node or cluster capacity reads as 0 hours.
    pub fn missing_capacity_is_zero(self) -> bool {
        self == Semantics::SelfHosted
    }

    /// Row 7: a volume without any pod in the pod report has no divisor, and so no request and usage; otherwise divisor 1.
    pub fn missing_divisor_is_null(self) -> bool {
        self == Semantics::Trino
    }

    /// Row 8: a divisor of zero is an error; otherwise 1.
    pub fn zero_divisor_is_error(self) -> bool {
        self != Semantics::Balanced
    }

    /// Row 8b: whether the volume-to-node map joins on the volume too.
    pub fn volume_map_joins_on_volume(self) -> bool {
        self == Semantics::Balanced
    }

    /// Row 9: with the effective usage missing, one null among usage and request makes it null.
    pub fn greatest_is_null_if_any(self) -> bool {
        self == Semantics::Trino
    }

    /// Rows 10, 11 and 12: label sets, patterns and unallocated patterns multiply rows.
    pub fn joins_multiply(self) -> bool {
        self != Semantics::Balanced
    }

    /// Row 13: backslash escapes in LIKE patterns.
    pub fn like_has_escape(self) -> bool {
        self == Semantics::SelfHosted
    }

    /// Row 15.
    pub fn decimal_rounding(self) -> DecimalRounding {
        match self {
            Semantics::SelfHosted => DecimalRounding::FifteenDigits,
            Semantics::Balanced | Semantics::Trino => DecimalRounding::Shortest,
        }
    }

    /// Row 17: a product or quotient of finite non-zero numbers that becomes 0 is an error.
    pub fn underflow_is_error(self) -> bool {
        self == Semantics::SelfHosted
    }

    /// Whether the conservation laws hold and are checked.
    pub fn conserves(self) -> bool {
        self == Semantics::Balanced
    }
}

/// The key that is kept whatever is enabled (contract, section 3.4.1).
pub const ALWAYS_ENABLED_KEY: &str = "vm_kubevirt_io_name";

impl fmt::Display for Semantics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
